"""Limits the simultaneous attempts at one model, and adapts the limit to refusals for too many of them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from service.lvlm.provider_attempt import Attempt, Ending
from service.lvlm.providers.base import FailureKind

DECREASE = 0.85
"""Factor, between 0 and 1, by which a refusal shrinks the limit."""

INCREASE = 4.0
"""Permits by which the limit grows for as many good answers as it has permits."""

_TOO_MUCH = frozenset({FailureKind.RATE_LIMITED, FailureKind.OVERLOADED})


class ConcurrencyLimit:
    """Hands out permits for attempts, and adjusts their number to how attempts end.

    Additive increase, multiplicative decrease (Chiu and Jain, 1989; as in TCP). The limit starts at the
    ceiling. A refusal for too many calls sets it to 85 % of the permits in use, once for all attempts that
    had begun by then; good answers raise it again. If less than half of the limit was in use, the number of
    attempts cannot have been the reason (a quota per minute was), and 85 % of the limit itself is taken.
    Waiting calls get permits in the order of their arrival.

    Args:
        ceiling: largest number of permits, at least 1.
        adaptive: whether the limit changes; False keeps it at the ceiling.
    """

    def __init__(self, ceiling: int, *, adaptive: bool = True) -> None:
        self._ceiling = ceiling
        self._adaptive = adaptive
        self._limit = float(ceiling)  # a fraction of a permit is added per answer
        self._in_use = 0
        self._waiting: deque[asyncio.Future[None]] = deque()  # a future is done once it has a permit
        self._shrunk_at = 0.0  # by time.perf_counter, as an attempt's seconds are

    @property
    def limit(self) -> int:
        """Number of permits, at least 1; the metric ``msr_lvlm_places`` shows it."""
        return max(1, int(self._limit))

    @property
    def in_use(self) -> int:
        """Number of permits that were acquired and not released; above the limit after it shrank."""
        return self._in_use

    def try_acquire(self) -> bool:
        """Acquires a permit if one is free now and no earlier call waits for it; tells whether it did."""
        free = self._in_use < self.limit and not self._waiting
        self._in_use += free
        return free

    async def acquire(self, until: Callable[[], float]) -> bool:
        """Acquires a permit, perhaps after waiting for one; returns False if none came free in time.

        Args:
            until: function that returns the event loop's time, in seconds, at which to stop waiting. It is
                called after each wait, since a request that joins the call may have more time.
        """
        if self.try_acquire():
            return True
        loop = asyncio.get_running_loop()
        permit: asyncio.Future[None] = loop.create_future()
        self._waiting.append(permit)
        try:
            while not permit.done():
                left = until() - loop.time()
                if left <= 0:
                    self._waiting.remove(permit)
                    return False
                await asyncio.wait({permit}, timeout=left)
        except asyncio.CancelledError:
            # Cancelled after the permit was handed over: without a release it would be lost.
            if permit.done():
                self.release()
            else:
                self._waiting.remove(permit)
            raise
        return True

    def release(self) -> None:
        """Returns a permit; the call that has waited longest gets it."""
        self._in_use -= 1
        self._hand_out()

    def learn(self, attempt: Attempt) -> None:
        """Takes an attempt that has ended into account."""
        if not self._adaptive:
            return
        now = time.perf_counter()
        if attempt.failure in _TOO_MUCH:
            # Attempts that began before the limit shrank were refused for the load that shrank it.
            if now - attempt.seconds >= self._shrunk_at:
                busy = self._in_use >= self._limit / 2
                shrunk = DECREASE * (min(self._in_use, self._limit) if busy else self._limit)
                self._limit = max(1.0, shrunk)
                self._shrunk_at = now
        elif attempt.ending is Ending.FINISHED and self._limit < self._ceiling:
            self._limit = min(self._ceiling, self._limit + INCREASE / self._limit)  # additive per round
            self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and self._in_use < self.limit:
            permit = self._waiting.popleft()
            if not permit.done():
                self._in_use += 1
                permit.set_result(None)
