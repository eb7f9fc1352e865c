"""The quota limits requests and tokens per minute, and US dollars per hour and day, over all workers.

An attempt reserves what it is expected to take before it is made, and afterwards its reservation is settled
for what it took, or released if it was not made. The meters themselves are in ``stores``; while the shared
ones are down, those of this process hold its part of the limits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from service.lvlm.bill import Bill
from service.lvlm.provider_attempt import Ending
from service.stores.base import Flow, Meters, StoreError, Sum
from service.stores.memory import MemoryMeters

HOUR, DAY = 3_600, 86_400
"""Seconds of the windows over which dollars are summed; windows begin with the full hour or day in UTC."""

SAFETY_FACTOR = 1.5
"""Dollars reserved per expected dollar until the bill is known.

Estimates may be low, and many simultaneous calls must not exceed the budget together.
"""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Limits of one provider, or of one of its models, each above 0; None for no limit.

    Attributes:
        requests_per_minute: requests per minute.
        tokens_per_minute: input and output tokens per minute.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """US dollars that may be spent, over all providers; None for no limit.

    Attributes:
        usd_per_hour: US dollars per full hour in UTC.
        usd_per_day: US dollars per day in UTC.
    """

    usd_per_hour: float | None = None
    usd_per_day: float | None = None

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.usd_per_hour is not None or self.usd_per_day is not None


@dataclass(frozen=True, slots=True)
class Reservation:
    """The amounts that were drawn from the limits for one attempt.

    It must be settled or released exactly once.

    Attributes:
        expected: bill that was expected of the attempt.
        flows: amounts drawn from the limits per minute.
        sums: US dollars added to the budgets' totals.
        meters: meters that hold the amounts, shared or local; None if there are no limits.
        wait: seconds until the attempt's turn by the limits per minute; at least 0.
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
        local: meters of this process with its part of the limits, used while the shared ones are down. They
            also hold this process's share of the totals, in case the shared ones are lost.
        limits: limits per minute by ``provider`` or ``provider/model``; None for none.
        budget: US dollars per hour and day; None for no limit.
        unpriced: whether to allow calls without a price while a budget is set, which cannot count them.
        free_providers: names of providers whose calls cost nothing, whether they have a price or not.
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
        self._settling: set[asyncio.Task[None]] = set()  # held, since the event loop's references are weak

    def refuses_unpriced(self, provider: str) -> bool:
        """Tells whether calls of a provider are refused for models without a price."""
        return self._budget.limited and not (self._unpriced or provider in self._free)

    async def reserve(self, provider: str, model: str, expected: Bill, until: float) -> Reservation | Ending:
        """Draws from the limits what an attempt will take, and waits for the attempt's turn.

        Args:
            provider: configured name of the provider.
            model: the provider's name for the model.
            expected: bill that is expected of the attempt.
            until: event loop's time, in seconds, by which the turn must come; otherwise nothing is drawn.

        Returns:
            The reservation; without one ``Ending.LIMIT`` or ``Ending.BUDGET``, for the limit that refused.
        """
        if expected.cost_usd is None and self.refuses_unpriced(provider):
            return Ending.BUDGET
        flows, sums = self._flows(provider, model, expected), self._sums(expected)
        # Without limits no store is asked, so that a slow one cannot delay calls.
        if not flows and not sums:
            return Reservation(expected)
        patience = max(0.0, until - asyncio.get_running_loop().time())
        # In a task of its own: if a draw on its way to the store were cancelled, it would not be known
        # whether it was made.
        drawing = asyncio.create_task(self._draw_with_fallback(expected, flows, sums, patience))
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
        """Corrects the amounts of a reservation to the bill of its attempt."""
        if reservation.meters is None:
            return
        # Only the difference, which is negative for an attempt that took less than expected.
        tokens = _tokens(bill) - _tokens(reservation.expected)
        dollars = bill.cost_usd or 0.0
        flows = [
            Flow(flow.key, tokens, flow.per_minute) for flow in reservation.flows if _counts_tokens(flow)
        ]
        await self._correct(
            reservation.meters,
            flows,
            [self._correction(each, dollars - each.amount) for each in reservation.sums],
        )

    async def release(self, reservation: Reservation) -> None:
        """Returns all amounts of a reservation whose attempt is not made."""
        if reservation.meters is not None:
            flows = [Flow(each.key, -each.amount, each.per_minute) for each in reservation.flows]
            await self._correct(
                reservation.meters, flows, [self._correction(each, -each.amount) for each in reservation.sums]
            )

    def settle_soon(self, reservation: Reservation, bill: Bill | None) -> None:
        """Settles or releases a reservation in the background, so that no answer waits for the meters.

        Args:
            reservation: reservation of the attempt.
            bill: bill of the attempt; None if it was not made, so that the reservation is released.
        """
        if reservation.meters:
            task = asyncio.create_task(self.settle(reservation, bill) if bill else self.release(reservation))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)

    async def close(self) -> None:
        """Waits until all reservations given to ``settle_soon`` are settled."""
        await asyncio.gather(*self._settling)

    async def _correct(self, meters: Meters, flows: Sequence[Flow], sums: Sequence[Sum]) -> None:
        try:
            with suppress(StoreError):  # a store that is down keeps the estimate
                await meters.correct(flows)
                await meters.settle(sums)
        finally:
            await self._add_locally(meters, sums)

    def _correction(self, drawn: Sum, amount: float) -> Sum:
        return replace(drawn, amount=amount, own=self._local.total(drawn.key))

    async def _add_locally(self, meters: Meters, sums: Sequence[Sum]) -> None:
        """Adds amounts to this process's own totals too, in case the shared ones are down or lost."""
        if meters is not self._local:
            await self._local.settle(sums)

    async def _draw_with_fallback(
        self, expected: Bill, flows: tuple[Flow, ...], sums: tuple[Sum, ...], patience: float
    ) -> Reservation | Ending:
        try:
            return await self._draw(self._meters, expected, flows, sums, patience)
        except StoreError:  # the limits hold for this process alone
            return await self._draw(self._local, expected, flows, sums, patience)

    async def _draw(
        self, meters: Meters, expected: Bill, flows: tuple[Flow, ...], sums: tuple[Sum, ...], patience: float
    ) -> Reservation | Ending:
        # The budgets first: unlike a limit per minute they cannot be waited for.
        if sums and not await meters.add(sums):
            return Ending.BUDGET
        await self._add_locally(meters, sums)
        reservation = Reservation(expected, (), sums, meters)
        try:
            wait = await meters.draw(flows, patience) if flows else 0.0
        except StoreError:
            await self.release(reservation)
            raise
        # The turn would come too late, and the dollars that were added already are returned.
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
        cost = SAFETY_FACTOR * (expected.cost_usd or 0.0)
        windows = ((HOUR, self._budget.usd_per_hour), (DAY, self._budget.usd_per_day))
        now = int(time.time())
        # Windows begin with the full hour or day in UTC, so that all workers add to the same key.
        keys = {f"usd:{seconds}:{now // seconds}": (seconds, limit) for seconds, limit in windows}
        return tuple(
            # Kept for one more window, so that an attempt of this window can be settled after its end.
            Sum(key, cost, limit, ttl=2 * seconds, own=self._local.total(key))
            for key, (seconds, limit) in keys.items()
            if limit is not None and expected.cost_usd
        )


def _tokens(bill: Bill) -> int:
    return bill.usage.input_tokens + bill.usage.output_tokens


def _counts_tokens(flow: Flow) -> bool:
    return flow.key.startswith("tokens:")
