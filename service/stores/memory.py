"""Stores inside one process: the default, without a server and gone at the end of the process."""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence

MAX_EVENTS_PER_USER = 2_000


class MemoryCache:
    """A cache bounded by the bytes of its values; the least recently used value goes first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None when there is none or it has expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, expires = entry
        if time.monotonic() >= expires:
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return value

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Like ``get`` for several keys, in order."""
        return [await self.get(key) for key in keys]

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        """Keep the value for ``ttl`` seconds; a value larger than the whole cache is not kept.

        Raises:
            ValueError: the time to live is not positive.
        """
        if ttl <= 0:
            raise ValueError(f"a time to live is positive, not {ttl}")
        self._remove(key)
        if len(value) > self._max_bytes:
            return
        self._entries[key] = (value, time.monotonic() + ttl)
        self._bytes += len(value)
        while self._bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))

    def _remove(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= len(entry[0])


class MemoryEvents:
    """Events of one process; other workers do not see them."""

    def __init__(self) -> None:
        self._item_ids: defaultdict[str, list[str]] = defaultdict(list)

    async def append(self, item_ids: Mapping[str, Sequence[str]]) -> None:
        """Add items to the end of each user's list."""
        for user_id, added in item_ids.items():
            kept = self._item_ids[user_id]
            kept.extend(added)
            del kept[:-MAX_EVENTS_PER_USER]

    async def get(self, user_id: str) -> list[str]:
        """The user's items, oldest first; empty for an unknown user."""
        return list(self._item_ids.get(user_id, ()))
