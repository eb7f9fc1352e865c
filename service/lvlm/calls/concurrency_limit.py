"""The limit of simultaneous calls to one model, which adapts to refusals."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from service.lvlm.attempt import Attempt, Ending
from service.lvlm.providers.base import FailureKind

DECREASE = 0.85
"""Factor by which a refusal shrinks the limit."""

INCREASE = 4.0
"""Calls by which the limit grows once as many good answers have come as it allows calls."""

_TOO_MUCH = frozenset({FailureKind.RATE_LIMITED, FailureKind.OVERLOADED})


class ConcurrencyLimit:
    """Hands out permits to call, and adjusts their number to how calls end.

    Additive increase, multiplicative decrease (Chiu and Jain 1989, as in TCP). The limit starts at the
    ceiling. A refusal for too many calls takes it to 85 % of what was under way, once for all calls that had
    already begun; good answers win it back. When less than half of the limit was under way, the number of
    calls cannot have been the reason (a quota per minute was), and the limit alone shrinks. Permits go to
    waiting calls in the order of their coming.

    Args:
        ceiling: largest limit, in calls under way.
        adaptive: whether the limit moves; False keeps it at the ceiling.
    """

    def __init__(self, ceiling: int, *, adaptive: bool = True) -> None:
        self._ceiling = ceiling
        self._adaptive = adaptive
        self._limit = float(ceiling)
        self._in_use = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._shrunk_at = 0.0

    @property
    def limit(self) -> int:
        """Calls that may be under way now; the metric ``msr_lvlm_places`` shows it."""
        return max(1, int(self._limit))

    @property
    def in_use(self) -> int:
        """Permits handed out and not given back."""
        return self._in_use

    def try_acquire(self) -> bool:
        """Takes a permit if one is free now and no earlier call waits for it."""
        free = self._in_use < self.limit and not self._waiting
        self._in_use += free
        return free

    async def acquire(self, until: Callable[[], float]) -> bool:
        """Takes a permit; returns False if none came free in time.

        Args:
            until: tells the event loop's time at which to stop waiting. It is asked anew after each wait,
                since a request that joins the call may have more time.
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
            if permit.done():  # handed over in the very moment of the cancellation: the next in line gets it
                self.release()
            else:
                self._waiting.remove(permit)
            raise
        return True

    def release(self) -> None:
        """Gives a permit back."""
        self._in_use -= 1
        self._hand_out()

    def learn(self, attempt: Attempt) -> None:
        """Adjusts the limit to how an attempt ended."""
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
            self._limit = min(self._ceiling, self._limit + INCREASE / self._limit)
            self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and self._in_use < self.limit:
            permit = self._waiting.popleft()
            if not permit.done():
                self._in_use += 1
                permit.set_result(None)
