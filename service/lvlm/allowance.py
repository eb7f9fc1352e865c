"""What calls may take: requests and tokens per minute, US dollars per hour and day, over all workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from service.lvlm.accounts import Bill
from service.lvlm.attempt import Ending
from service.stores.base import Flow, Meters, StoreError, Sum
from service.stores.memory import MemoryMeters

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

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all."""
        return self.usd_per_hour is not None or self.usd_per_day is not None


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
        local: this process's own with its part of the limits, for while the shared ones are away; also its
            memory of what it has spent.
        limits: by ``provider`` or ``provider/model``.
        unpriced: grant also what has no price, which a budget cannot count.
        free: names of providers whose calls cost nothing, with a price or without.
    """

    def __init__(
        self,
        meters: Meters,
        local: MemoryMeters,
        limits: Mapping[str, RateLimit] | None = None,
        budget: Budget | None = None,
        *,
        unpriced: bool = False,
        free: Collection[str] = (),
    ) -> None:
        self._meters = meters
        self._local = local
        self._limits = dict(limits or {})
        self._budget = budget or Budget()
        self._unpriced = unpriced
        self._free = frozenset(free)

    def refuses_unpriced(self, provider: str) -> bool:
        """Whether a call of this provider needs a price, because a budget could not count it otherwise."""
        return self._budget.limited and not (self._unpriced or provider in self._free)

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
        if expected.cost_usd is None and self.refuses_unpriced(provider):
            return Ending.BUDGET
        flows, sums = self._flows(provider, model, expected), self._sums(expected)
        if not flows and not sums:
            return Grant(expected)
        patience = max(0.0, until - asyncio.get_running_loop().time())
        # A task of its own: a draw that is cut on its way would leave nobody to know whether it was made.
        drawing = asyncio.create_task(self._draw_somewhere(expected, flows, sums, patience))
        try:
            drawn = await asyncio.shield(drawing)
            if isinstance(drawn, Grant):
                await asyncio.sleep(drawn.wait)
        except asyncio.CancelledError:
            if isinstance(drawn := await drawing, Grant):
                await self.give_back(drawn)
            raise
        return drawn

    async def settle(self, grant: Grant, bill: Bill) -> None:
        """Correct what was drawn by what the attempt really took."""
        if grant.meters is None:
            return
        tokens = _tokens(bill) - _tokens(grant.expected)
        dollars = bill.cost_usd or 0.0
        flows = [Flow(flow.key, tokens, flow.per_minute) for flow in grant.flows if _counts_tokens(flow)]
        await self._correct(
            grant.meters, flows, [self._by(each, dollars - each.amount) for each in grant.sums]
        )

    async def give_back(self, grant: Grant) -> None:
        """Return all that was drawn for an attempt that is not made."""
        if grant.meters is not None:
            flows = [Flow(each.key, -each.amount, each.per_minute) for each in grant.flows]
            await self._correct(grant.meters, flows, [self._by(each, -each.amount) for each in grant.sums])

    async def _correct(self, meters: Meters, flows: Sequence[Flow], sums: Sequence[Sum]) -> None:
        try:
            with suppress(StoreError):  # a meter that is away keeps its estimate
                await meters.correct(flows)
                await meters.settle(sums)
        finally:
            await self._remember(meters, sums)

    def _by(self, drawn: Sum, amount: float) -> Sum:
        return replace(drawn, amount=amount, own=self._local.total(drawn.key))

    async def _remember(self, meters: Meters, sums: Sequence[Sum]) -> None:
        """Keep what this process spends also for itself, for while the shared totals are away or lost."""
        if meters is not self._local:
            await self._local.settle(sums)

    async def _draw_somewhere(
        self, expected: Bill, flows: tuple[Flow, ...], sums: tuple[Sum, ...], patience: float
    ) -> Grant | Ending:
        try:
            return await self._draw(self._meters, expected, flows, sums, patience)
        except StoreError:  # the limits hold for this process alone
            return await self._draw(self._local, expected, flows, sums, patience)

    async def _draw(
        self, meters: Meters, expected: Bill, flows: tuple[Flow, ...], sums: tuple[Sum, ...], patience: float
    ) -> Grant | Ending:
        if sums and not await meters.add(sums):
            return Ending.BUDGET
        await self._remember(meters, sums)
        grant = Grant(expected, (), sums, meters)
        try:
            wait = await meters.draw(flows, patience) if flows else 0.0
        except StoreError:
            await self.give_back(grant)
            raise
        if wait is None:
            await self.give_back(grant)
            return Ending.LIMIT
        return Grant(expected, flows, sums, meters, wait)

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
        keys = {f"usd:{seconds}:{now // seconds}": (seconds, limit) for seconds, limit in windows}
        return tuple(
            # Kept for one window more, so that an attempt that began in this one is still settled in it.
            Sum(key, cost, limit, ttl=2 * seconds, own=self._local.total(key))
            for key, (seconds, limit) in keys.items()
            if limit is not None and expected.cost_usd
        )


def _tokens(bill: Bill) -> int:
    return bill.usage.input_tokens + bill.usage.output_tokens


def _counts_tokens(flow: Flow) -> bool:
    return flow.key.startswith("tokens:")
