"""What calls may take: requests and tokens per minute, US dollars per hour and day, over all workers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from service.lvlm.accounts import Bill
from service.lvlm.attempt import Ending
from service.stores.base import Flow, Meters, StoreError, Sum

log = logging.getLogger(__name__)

HOUR, DAY = 3_600, 86_400

CAUTION = 1.5
"""What is drawn from a budget for each expected dollar until the bill is there: estimates may be low, and a
hundred calls at once must not pass the budget together."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What one provider, or one model of it, allows; None for no limit."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """US dollars that may be spent, by the clock in UTC; None for no limit."""

    usd_per_hour: float | None = None
    usd_per_day: float | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to make one attempt, drawn for what it was expected to take.

    Attributes:
        meters: where it was drawn; None if there are no limits.
        wait: seconds until its turn.
    """

    expected: Bill
    flows: tuple[Flow, ...] = ()
    sums: tuple[Sum, ...] = ()
    meters: Meters | None = field(default=None, repr=False)
    wait: float = 0.0


class Allowance:
    """Grants attempts before they are made, and corrects the meters afterwards.

    Args:
        meters: shared by all workers.
        local: this process's own with its part of the limits, for while the shared ones are away.
        limits: by ``provider`` or ``provider/model``.
    """

    def __init__(
        self,
        meters: Meters,
        local: Meters,
        limits: Mapping[str, RateLimit] | None = None,
        budget: Budget | None = None,
    ) -> None:
        self._meters = meters
        self._local = local
        self._limits = dict(limits or {})
        self._budget = budget or Budget()

    async def grant(self, provider: str, model: str, expected: Bill, until: float) -> Grant | Ending:
        """Draw what an attempt will take, and wait for its turn.

        Args:
            provider: a configured name.
            model: of the provider.
            expected: what the attempt will take.
            until: the event loop's time at which waiting makes no more sense; nothing stays drawn then.

        Returns:
            The grant; or ``Ending.LIMIT`` or ``Ending.BUDGET`` for why there is none.
        """
        flows, sums = self._flows(provider, model, expected), self._sums(expected)
        if not flows and not sums:
            return Grant(expected)
        patience = until - asyncio.get_running_loop().time()
        # A task of its own: a draw that is cut on its way would leave nobody to know whether it was made.
        drawing = asyncio.create_task(self._draw_somewhere(expected, flows, sums, patience))
        try:
            drawn = await asyncio.shield(drawing)
            if isinstance(drawn, Grant):
                await asyncio.sleep(drawn.wait)
        except asyncio.CancelledError:
            if isinstance(drawn := await drawing, Grant):
                await self._return(drawn)
            raise
        return drawn

    async def settle(self, grant: Grant, bill: Bill) -> None:
        """Correct what was drawn by what the attempt really took."""
        if grant.meters is None:
            return
        tokens = _tokens(bill) - _tokens(grant.expected)
        dollars = bill.cost_usd or 0.0
        flows = [Flow(flow.key, tokens, flow.per_minute) for flow in grant.flows if _counts_tokens(flow)]
        sums = [Sum(each.key, dollars - each.amount, each.limit, each.ttl) for each in grant.sums]
        try:
            await grant.meters.correct(flows)
            await grant.meters.settle(sums)
        except StoreError as error:
            log.warning("a meter keeps its estimate: %s", error)

    async def _draw_somewhere(
        self, expected: Bill, flows: tuple[Flow, ...], sums: tuple[Sum, ...], patience: float
    ) -> Grant | Ending:
        try:
            return await self._draw(self._meters, expected, flows, sums, patience)
        except StoreError as error:
            log.warning("limits hold for this process alone: %s", error)
            return await self._draw(self._local, expected, flows, sums, patience)

    async def _draw(
        self, meters: Meters, expected: Bill, flows: tuple[Flow, ...], sums: tuple[Sum, ...], patience: float
    ) -> Grant | Ending:
        if sums and not await meters.add(sums):
            return Ending.BUDGET
        wait = await meters.draw(flows, patience) if flows else 0.0
        if wait is None:
            await meters.settle([Sum(each.key, -each.amount, each.limit, each.ttl) for each in sums])
            return Ending.LIMIT
        return Grant(expected, flows, sums, meters, wait)

    async def _return(self, grant: Grant) -> None:
        assert grant.meters is not None
        try:
            await grant.meters.correct([Flow(f.key, -f.amount, f.per_minute) for f in grant.flows])
            await grant.meters.settle([Sum(s.key, -s.amount, s.limit, s.ttl) for s in grant.sums])
        except StoreError as error:
            log.warning("a meter keeps what was not used: %s", error)

    def _flows(self, provider: str, model: str, expected: Bill) -> tuple[Flow, ...]:
        flows = []
        for name in (provider, f"{provider}/{model}"):
            limit = self._limits.get(name, RateLimit())
            if limit.requests_per_minute:
                flows.append(Flow(f"requests:{name}", 1, limit.requests_per_minute))
            if limit.tokens_per_minute:
                flows.append(Flow(f"tokens:{name}", _tokens(expected), limit.tokens_per_minute))
        return tuple(flows)

    def _sums(self, expected: Bill) -> tuple[Sum, ...]:
        cost = CAUTION * (expected.cost_usd or 0.0)
        windows = ((HOUR, self._budget.usd_per_hour), (DAY, self._budget.usd_per_day))
        now = int(time.time())
        return tuple(
            # Kept for one window more, so that an attempt that began in this one is still settled in it.
            Sum(f"usd:{seconds}:{now // seconds}", cost, limit, ttl=2 * seconds)
            for seconds, limit in windows
            if limit is not None and expected.cost_usd
        )


def _tokens(bill: Bill) -> int:
    return bill.usage.input_tokens + bill.usage.output_tokens


def _counts_tokens(flow: Flow) -> bool:
    return flow.key.startswith("tokens:")
