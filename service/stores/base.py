"""What the service asks of a place that keeps things: answers and captions for a while, and users' events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class StoreError(Exception):
    """The store cannot be reached or refused the operation; whoever reads treats it as a miss."""


class Cache(Protocol):
    """Bytes under a key for a limited time."""

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None when there is none or it has expired.

        Raises:
            StoreError: the store is down.
        """
        ...

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Like ``get`` for several keys in one round trip, in order.

        Raises:
            StoreError: the store is down.
        """
        ...

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        """Keep the value for ``ttl`` seconds (more than 0), replacing an earlier one.

        Raises:
            StoreError: the store is down.
            ValueError: the time to live is not positive.
        """
        ...


class Events(Protocol):
    """Item ids that users took after the bundle was made, oldest first."""

    async def append(self, item_ids: Mapping[str, Sequence[str]]) -> None:
        """Add items to the end of each user's list: all of them or, on failure, none.

        Raises:
            StoreError: the store is down; nothing was added.
        """
        ...

    async def get(self, user_id: str) -> list[str]:
        """The user's items, oldest first, at most the newest 2,000; empty for an unknown user.

        Raises:
            StoreError: the store is down.
        """
        ...
