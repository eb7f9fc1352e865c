"""How many calls may be under way at one model: as many as it bears."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from service.lvlm.attempt import Attempt, Ending
from service.lvlm.providers.base import FailureKind

SHRINK = 0.85
GROW = 4.0
"""Places gained per round of answers: a whole limit's worth of good answers adds so many."""

_TOO_MUCH = frozenset({FailureKind.RATE_LIMITED, FailureKind.OVERLOADED})


class Places:
    """A limit of concurrent calls that finds itself: additive increase, multiplicative decrease.

    (Chiu and Jain 1989, as in TCP.) It starts at the ceiling. An answer that says "too much" takes the limit
    to 85 % of what was under way, once for all calls that had already begun; good answers win it back. When
    much less was under way than may be, it was not their number that was too much (a quota of the minute
    was), and the limit alone shrinks. Who waits is served in the order of coming.

    Args:
        ceiling: never more than this.
        adaptive: False keeps the limit at the ceiling.
    """

    def __init__(self, ceiling: int, *, adaptive: bool = True) -> None:
        self._ceiling = ceiling
        self._adaptive = adaptive
        self._limit = float(ceiling)
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._shrunk = 0.0

    @property
    def limit(self) -> int:
        """Calls that may be under way now."""
        return max(1, int(self._limit))

    @property
    def taken(self) -> int:
        """Calls under way."""
        return self._taken

    def take(self) -> bool:
        """Take a place if one is free now and nobody waits for it."""
        free = self._taken < self.limit and not self._waiting
        self._taken += free
        return free

    async def acquire(self, until: Callable[[], float]) -> bool:
        """Take a place; False if none came free by ``until`` (the event loop's clock, asked anew)."""
        if self.take():
            return True
        loop = asyncio.get_running_loop()
        place: asyncio.Future[None] = loop.create_future()
        self._waiting.append(place)
        try:
            while not place.done():
                left = until() - loop.time()
                if left <= 0:
                    self._waiting.remove(place)
                    return False
                await asyncio.wait({place}, timeout=left)
        except asyncio.CancelledError:
            if place.done():  # given in the very moment: pass it on
                self.release()
            else:
                self._waiting.remove(place)
            raise
        return True

    def release(self) -> None:
        """Give a place back."""
        self._taken -= 1
        self._hand_out()

    def learn(self, attempt: Attempt) -> None:
        """Adjust the limit to how an attempt ended."""
        if not self._adaptive:
            return
        now = time.perf_counter()
        if attempt.failure in _TOO_MUCH:
            if now - attempt.seconds >= self._shrunk:
                busy = self._taken >= self._limit / 2
                shrunk = SHRINK * (min(self._taken, self._limit) if busy else self._limit)
                self._limit = max(1.0, shrunk)
                self._shrunk = now
        elif attempt.ending is Ending.FINISHED and self._limit < self._ceiling:
            self._limit = min(self._ceiling, self._limit + GROW / self._limit)
            self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and self._taken < self.limit:
            place = self._waiting.popleft()
            if not place.done():
                self._taken += 1
                place.set_result(None)
