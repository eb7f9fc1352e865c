"""Defines the protocol that counts what each client took within the last minute, and implements it in memory.

The count is a sliding window of two counters, as in the library ``limits``: this minute's, and as much of the
minute before as the window still covers.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

WINDOW = 60
"""Seconds of the window."""

MAX_CLIENTS = 10_000
"""Clients that a process remembers for one limit; beyond them the one silent longest is forgotten."""


class Rates(Protocol):
    """Counts what clients take, for all processes that share the store."""

    async def take(self, client: str, limit: int, amount: int) -> bool:
        """Counts ``amount`` for a client, or returns False if its count would pass ``limit``.

        Raises:
            StoreError: the store is down.
        """
        ...

    async def wait(self, client: str, limit: int) -> float:
        """Returns the seconds until the client can take one more; 0 if it can now.

        Raises:
            StoreError: the store is down.
        """
        ...


def seconds_until_one_more(
    previous: int, previous_left: float, current: int, current_left: float, limit: int
) -> float:
    """Returns the seconds after which a sliding window has room for one more; 0 if it has now.

    Args:
        previous: count of the window before.
        previous_left: seconds for which it still counts in part, up to ``WINDOW``.
        current: count of the current window.
        current_left: seconds until the current window becomes the one before, up to ``WINDOW``.
        limit: highest count that is allowed, at least 1.
    """
    if current < limit:
        if int(previous * previous_left / WINDOW) + current < limit:
            return 0.0
        return max(0.0, previous_left - WINDOW * (limit - current) / previous)
    return current_left + WINDOW - WINDOW * limit / current


class _Counters:
    __slots__ = ("began", "current", "previous")

    def __init__(self, now: float) -> None:
        self.began, self.current, self.previous = now, 0, 0


class MemoryRates:
    """Counts for one process, of at most ``MAX_CLIENTS`` clients.

    The storage in memory of ``limits`` walks all clients for every request: 0.8 ms with 10,000 of them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._clients: OrderedDict[str, _Counters] = OrderedDict()  # the one silent longest first

    def add(self, client: str, amount: int) -> None:
        """Counts an amount, even beyond the limit."""
        self._counters(client, self._clock()).current += amount

    def can_take(self, client: str, limit: int, amount: int) -> bool:
        """Returns whether a client's count and ``amount`` are together within ``limit``."""
        now = self._clock()
        found = self._counters(client, now)
        covered = int(found.previous * (found.began + WINDOW - now) / WINDOW)
        return covered + found.current + amount <= limit

    def wait(self, client: str, limit: int) -> float:
        """Returns the seconds until the client can take one more; 0 if it can now."""
        now = self._clock()
        found = self._counters(client, now)
        left = found.began + WINDOW - now
        return seconds_until_one_more(found.previous, left, found.current, left, limit)

    def _counters(self, client: str, now: float) -> _Counters:
        found = self._clients.get(client)
        if found is None or now - found.began >= 2 * WINDOW:
            found = self._clients[client] = _Counters(now)
            if len(self._clients) > MAX_CLIENTS:
                self._clients.popitem(last=False)
        elif now - found.began >= WINDOW:
            found.began += WINDOW
            found.previous, found.current = found.current, 0
        self._clients.move_to_end(client)
        return found
