"""Implements the stores in the memory of one process: the default, empty again after a restart."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence

from service.stores.base import BURST, FORGOTTEN_SECONDS, Flow, Sum

MOST_FORGOTTEN = 100_000
"""Owners whose values are refused at most, about 20 MB; beyond them the one forgotten first is forgotten."""


class MemoryCache:
    """A cache bounded by the bytes of its values; the least recently used value is dropped first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        # Value, monotonic seconds at which it expires, and owner; least recently used first.
        self._entries: OrderedDict[str, tuple[bytes, float, str | None]] = OrderedDict()
        self._owned: dict[str, set[str]] = {}  # keys by owner; exactly those of the entries that have one
        # Monotonic seconds until which an owner's values are refused, the ones that end first first.
        self._forgotten: OrderedDict[str, float] = OrderedDict()

    async def get(self, key: str) -> bytes | None:
        """Returns the value, or None when there is none or it has expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, expires, _ = entry
        if time.monotonic() >= expires:
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return value

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Returns the values of several keys in their order; see ``get``."""
        return [await self.get(key) for key in keys]

    async def set(self, key: str, value: bytes, ttl: float, owner: str | None = None) -> None:
        """Stores the value for ``ttl`` seconds, unless the cache is smaller or its owner is forgotten.

        Raises:
            ValueError: the time to live is not positive.
        """
        if ttl <= 0:
            raise ValueError(f"a time to live is positive, not {ttl}")
        if owner is not None and time.monotonic() < self._forgotten.get(owner, 0.0):
            return
        self._remove(key)
        if len(value) > self._max_bytes:
            return
        self._entries[key] = (value, time.monotonic() + ttl, owner)
        if owner is not None:
            self._owned.setdefault(owner, set()).add(key)
        self._bytes += len(value)
        while self._bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))

    async def forget(self, owner: str) -> int:
        """Removes all values of an owner, and refuses new ones for a time; returns how many."""
        now = time.monotonic()
        self._forgotten[owner] = now + FORGOTTEN_SECONDS
        self._forgotten.move_to_end(owner)
        # From the front alone: to look at all of them would hold up the event loop the longer, the more are
        # forgotten.
        while len(self._forgotten) > MOST_FORGOTTEN or next(iter(self._forgotten.values())) <= now:
            self._forgotten.popitem(last=False)
        keys = list(self._owned.get(owner, ()))
        for key in keys:
            self._remove(key)
        return len(keys)

    def _remove(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        value, _, owner = entry
        self._bytes -= len(value)
        if owner is not None:
            keys = self._owned[owner]
            keys.discard(key)
            if not keys:
                del self._owned[owner]


class MemoryMeters:
    """Meters of one process.

    Args:
        share: part of every limit that this process may use, from 0 to 1, where other processes use the same
            provider account without a store in common.
    """

    def __init__(self, share: float = 1.0) -> None:
        self._share = share
        self._full_at: dict[str, float] = {}  # monotonic seconds at which each bucket is full again
        self._totals: dict[str, tuple[float, float]] = {}  # amount, and monotonic seconds when it is dropped

    async def draw(self, flows: Sequence[Flow], patience: float) -> float | None:
        """Draws all of the flows, or none; returns the seconds to wait as ``Meters.draw`` does."""
        now = time.monotonic()
        wait = max([0.0, *(self._wait(flow, now) for flow in flows)])
        if wait > patience:
            return None
        self._take(flows, now)
        return wait

    async def correct(self, flows: Sequence[Flow]) -> None:
        """Draws without a limit on the wait."""
        self._take(flows, time.monotonic())

    async def add(self, sums: Sequence[Sum]) -> bool:
        """Adds to all totals, or to none and returns False if one of them would pass its limit."""
        if any(self.total(each.key) + each.amount > each.limit * self._share for each in sums):
            return False
        await self.settle(sums)
        return True

    async def settle(self, sums: Sequence[Sum]) -> None:
        """Adds to all totals, even beyond their limits."""
        now = time.monotonic()
        self._totals = {key: kept for key, kept in self._totals.items() if now < kept[1]}
        for each in sums:
            self._totals[each.key] = (self.total(each.key) + each.amount, now + each.ttl)

    def total(self, key: str) -> float:
        """Returns a total; 0 for one that was dropped or never added to."""
        total, until = self._totals.get(key, (0.0, 0.0))
        return total if time.monotonic() < until else 0.0

    def _seconds(self, flow: Flow) -> float:
        """Returns how many seconds the bucket needs to refill the amount."""
        return flow.amount * 60 / (flow.per_minute * self._share)

    # The virtual scheduling form of the generic cell rate algorithm (ITU-T I.371): a bucket is one number,
    # the time at which it will be full again.

    def _wait(self, flow: Flow, now: float) -> float:
        ahead = self._full_at.get(flow.key, now) - now
        return ahead - max(0.0, BURST - self._seconds(flow))

    def _take(self, flows: Sequence[Flow], now: float) -> None:
        for flow in flows:
            self._full_at[flow.key] = max(now, self._full_at.get(flow.key, now)) + self._seconds(flow)
