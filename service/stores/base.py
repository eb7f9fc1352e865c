"""Protocols of the stores: a cache, users' events, leases, and meters of limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class StoreError(Exception):
    """The store cannot be reached or refused the operation; a reader treats it as a miss.

    The store itself logs it, as an ``Outage``: its many users need not.
    """


def reading_time(deadline: float) -> float:
    """Returns how many seconds of a request's deadline reading a store may take: the rest needs time too."""
    return max(0.025, 0.25 * deadline)


class Cache(Protocol):
    """Keeps bytes under a key for a limited time."""

    async def get(self, key: str) -> bytes | None:
        """Returns the value, or None when there is none or it has expired.

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
        """Keeps the value for ``ttl`` seconds (more than 0), replacing an earlier one.

        Raises:
            StoreError: the store is down.
            ValueError: the time to live is not positive.
        """
        ...


class Events(Protocol):
    """Keeps the ids of items that users took after the bundle was made, oldest first."""

    async def append(self, item_ids: Mapping[str, Sequence[str]]) -> None:
        """Adds items to the end of each user's list: all of them or, on failure, none.

        Raises:
            StoreError: the store is down; nothing was added.
        """
        ...

    async def get(self, user_id: str) -> list[str]:
        """Returns the user's items, oldest first, at most the newest 2,000; none for an unknown user.

        Raises:
            StoreError: the store is down.
        """
        ...


class Leases(Protocol):
    """Leases: at most one owner per key, until it gives the key back or its time is over."""

    async def take(self, key: str, owner: str, ttl: float) -> bool:
        """Makes ``owner`` the owner for ``ttl`` seconds from now; False if another one is.

        Raises:
            StoreError: the store is down.
        """
        ...

    async def release(self, key: str, owner: str) -> None:
        """Gives the key back; nothing happens if it is not this owner's any more.

        Raises:
            StoreError: the store is down.
        """
        ...


@dataclass(frozen=True, slots=True)
class Flow:
    """An amount to draw from a bucket that refills steadily, so much per minute (a token bucket).

    Attributes:
        key: name of the bucket.
        amount: amount to draw, in the bucket's unit; a negative one is given back.
        per_minute: refill in that unit per minute, more than 0.
    """

    key: str
    amount: float
    per_minute: float


@dataclass(frozen=True, slots=True)
class Sum:
    """An amount to add to a total that must not pass a limit.

    Attributes:
        key: name of the total.
        amount: amount to add; a negative one is taken away.
        limit: the most that the total may be.
        ttl: seconds after which an untouched total is forgotten.
        own: what this process has added so far, as far as it remembers: a store that lost the total learns it
            again from the processes that spent it.
    """

    key: str
    amount: float
    limit: float
    ttl: float
    own: float = 0.0


BURST = 10.0
"""Seconds' worth of a flow that a full bucket holds: more at once waits, and delays what follows."""


class Meters(Protocol):
    """Meters flows and totals with limits, for all processes that share the store."""

    async def draw(self, flows: Sequence[Flow], patience: float) -> float | None:
        """Draws all of the flows, or none; a caller may have to wait for what it drew.

        An amount above ``BURST`` seconds' worth waits for a full bucket, and its debt delays those that
        follow.

        Args:
            flows: amounts to draw.
            patience: most seconds that the caller can wait.

        Returns:
            Seconds that the caller has to wait before it takes what it drew; None if that is more than its
            patience, and then nothing was drawn.

        Raises:
            StoreError: the store is down.
        """
        ...

    async def correct(self, flows: Sequence[Flow]) -> None:
        """Draws whatever the wait: a call took another amount than was drawn for it.

        Raises:
            StoreError: the store is down.
        """
        ...

    async def add(self, sums: Sequence[Sum]) -> bool:
        """Adds to all totals, or to none and returns False if one of them would pass its limit.

        Raises:
            StoreError: the store is down.
        """
        ...

    async def settle(self, sums: Sequence[Sum]) -> None:
        """Adds whatever the limits.

        Raises:
            StoreError: the store is down.
        """
        ...
