"""The quota: requests and tokens per minute, US dollars per hour and day, over all workers.

An attempt reserves what it is expected to take before it is made, and settles for what it took.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from service.lvlm.attempt import Ending
from service.lvlm.bill import Bill
from service.stores.base import Flow, Meters, StoreError, Sum
from service.stores.memory import MemoryMeters

HOUR, DAY = 3_600, 86_400
"""Seconds of the windows over which dollars are summed, from their beginning by the clock in UTC."""

CAUTION = 1.5
"""Dollars reserved for each expected one until the bill is there: estimates may be low, and a hundred calls
at once must not pass the budget together."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Requests and tokens per minute that one provider, or one model of it, allows; None for no limit."""

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
class Reservation:
    """What was drawn from the limits for one attempt that may be made.

    Attributes:
        expected: what the attempt was expected to take.
        flows: amounts drawn from limits per minute.
        sums: US dollars added to budgets.
        meters: meters where it was drawn; None if there are no limits.
        wait: seconds until the attempt's turn.
    """

    expected: Bill
    flows: tuple[Flow, ...] = ()
    sums: tuple[Sum, ...] = ()
    meters: Meters | None = field(default=None, repr=False)
    wait: float = 0.0


class Quota:
    """Reserves what attempts will take before they are made, and settles for what they took.

    Args:
        meters: meters that all workers share.
        local: this process's own meters, with its part of the limits, for while the shared ones are away;
            also its memory of what it has spent.
        limits: limits per minute by ``provider`` or ``provider/model``.
        budget: US dollars per hour and day.
        unpriced: whether to allow what has no price, which a budget cannot count.
        free_providers: names of providers whose calls cost nothing, with a price or without.
    """

    def __init__(
        self,
        meters: Meters,
        local: MemoryMeters,
        limits: Mapping[str, RateLimit] | None = None,
        budget: Budget | None = None,
        *,
        unpriced: bool = False,
        free_providers: Collection[str] = (),
    ) -> None:
        self._meters = meters
        self._local = local
        self._limits = dict(limits or {})
        self._budget = budget or Budget()
        self._unpriced = unpriced
        self._free = frozenset(free_providers)
        self._settling: set[asyncio.Task[None]] = set()

    def refuses_unpriced(self, provider: str) -> bool:
        """Tells whether a call of this provider needs a price, for a budget could not count it otherwise."""
        return self._budget.limited and not (self._unpriced or provider in self._free)

    async def reserve(self, provider: str, model: str, expected: Bill, until: float) -> Reservation | Ending:
        """Draws what an attempt will take, and waits for its turn.

        Args:
            provider: configured name of the provider.
            model: the provider's name for the model.
            expected: what the attempt will take.
            until: event loop's time at which waiting makes no more sense; nothing stays drawn then.

        Returns:
            The reservation; or ``Ending.LIMIT`` or ``Ending.BUDGET`` for why there is none.
        """
        if expected.cost_usd is None and self.refuses_unpriced(provider):
            return Ending.BUDGET
        flows, sums = self._flows(provider, model, expected), self._sums(expected)
        # Without limits no store is asked, so that none can slow a call down.
        if not flows and not sums:
            return Reservation(expected)
        patience = max(0.0, until - asyncio.get_running_loop().time())
        # A task of its own: after a draw that was cut on its way it would not be known whether it was made.
        drawing = asyncio.create_task(self._draw_somewhere(expected, flows, sums, patience))
        try:
            drawn = await asyncio.shield(drawing)
            if isinstance(drawn, Reservation):
                await asyncio.sleep(drawn.wait)
        except asyncio.CancelledError:
            if isinstance(drawn := await drawing, Reservation):
                await self.release(drawn)
            raise
        return drawn

    async def settle(self, reservation: Reservation, bill: Bill) -> None:
        """Corrects what was drawn by what the attempt really took."""
        if reservation.meters is None:
            return
        # The difference alone, which is negative for an attempt that took less than expected.
        tokens = _tokens(bill) - _tokens(reservation.expected)
        dollars = bill.cost_usd or 0.0
        flows = [
            Flow(flow.key, tokens, flow.per_minute) for flow in reservation.flows if _counts_tokens(flow)
        ]
        await self._correct(
            reservation.meters, flows, [self._by(each, dollars - each.amount) for each in reservation.sums]
        )

    async def release(self, reservation: Reservation) -> None:
        """Gives back all that was drawn for an attempt that is not made."""
        if reservation.meters is not None:
            flows = [Flow(each.key, -each.amount, each.per_minute) for each in reservation.flows]
            await self._correct(
                reservation.meters, flows, [self._by(each, -each.amount) for each in reservation.sums]
            )

    def settle_soon(self, reservation: Reservation, bill: Bill | None) -> None:
        """Settles in the background, so that an answer does not wait for the meters.

        Args:
            reservation: what was drawn.
            bill: what the attempt took; None if it was not made, so that all that was drawn goes back.
        """
        if reservation.meters:
            task = asyncio.create_task(self.settle(reservation, bill) if bill else self.release(reservation))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)

    async def close(self) -> None:
        """Waits until everything is settled."""
        await asyncio.gather(*self._settling)

    async def _correct(self, meters: Meters, flows: Sequence[Flow], sums: Sequence[Sum]) -> None:
        try:
            with suppress(StoreError):  # a meter that is away keeps the estimate
                await meters.correct(flows)
                await meters.settle(sums)
        finally:
            await self._remember(meters, sums)

    def _by(self, drawn: Sum, amount: float) -> Sum:
        return replace(drawn, amount=amount, own=self._local.total(drawn.key))

    async def _remember(self, meters: Meters, sums: Sequence[Sum]) -> None:
        """Adds to this process's own totals too, for while the shared ones are away or lost."""
        if meters is not self._local:
            await self._local.settle(sums)

    async def _draw_somewhere(
        self, expected: Bill, flows: tuple[Flow, ...], sums: tuple[Sum, ...], patience: float
    ) -> Reservation | Ending:
        try:
            return await self._draw(self._meters, expected, flows, sums, patience)
        except StoreError:  # the limits hold for this process alone
            return await self._draw(self._local, expected, flows, sums, patience)

    async def _draw(
        self, meters: Meters, expected: Bill, flows: tuple[Flow, ...], sums: tuple[Sum, ...], patience: float
    ) -> Reservation | Ending:
        if sums and not await meters.add(sums):
            return Ending.BUDGET
        await self._remember(meters, sums)
        reservation = Reservation(expected, (), sums, meters)
        try:
            wait = await meters.draw(flows, patience) if flows else 0.0
        except StoreError:
            await self.release(reservation)
            raise
        # The turn would come too late: what the sums hold already goes back as well.
        if wait is None:
            await self.release(reservation)
            return Ending.LIMIT
        return Reservation(expected, flows, sums, meters, wait)

    def _flows(self, provider: str, model: str, expected: Bill) -> tuple[Flow, ...]:
        # A limit may be set for the provider, for one of its models, or for both.
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
        # Windows begin with the full hour or day in UTC, so that all workers add to the same key.
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
