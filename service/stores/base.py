"""Defines the protocols of the stores: a cache, leases, and meters of limits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

# The longest deadline (300 s), the longest that its call may go on after it (600 s), and a minute to spare.
FORGOTTEN_SECONDS = 960.0
"""Seconds for which a cache refuses values of an owner whom it forgot: no earlier request lasts longer."""


def owner_of(user_id: str) -> str:
    """Returns the name under which caches know a user: a digest (BLAKE2b, 32 hexadecimal digits)."""
    # A lone surrogate is no text that UTF-8 has, but one that JSON can carry.
    return hashlib.blake2b(user_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class StoreError(Exception):
    """The store cannot be reached or refused the operation; a caller that reads treats it as a miss.

    The store itself logs it, as an ``Outage``; callers do not.
    """


def store_read_timeout(deadline: float) -> float:
    """Returns the seconds that one read of a store may take: a quarter of a request's ``deadline``."""
    return max(0.025, 0.25 * deadline)  # a healthy store answers in 25 ms, even if the deadline is shorter


class Cache(Protocol):
    """Stores bytes under a key for a limited time."""

    async def get(self, key: str) -> bytes | None:
        """Returns the value, or None when there is none or it has expired.

        Raises:
            StoreError: the store is down.
        """
        ...

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Returns the values of several keys in their order, in one round trip; see ``get``.

        Raises:
            StoreError: the store is down.
        """
        ...

    async def set(self, key: str, value: bytes, ttl: float, owner: str | None = None) -> None:
        """Stores the value for ``ttl`` seconds (more than 0), replacing an earlier one.

        Args:
            key: name of the value.
            value: bytes to store.
            ttl: seconds for which they are kept.
            owner: user whom the value is about, as ``owner_of`` names users; a value of an owner who was
                forgotten in the last ``FORGOTTEN_SECONDS`` is not stored. None for a value about no user.

        Raises:
            StoreError: the store is down.
            ValueError: the time to live is not positive.
        """
        ...

    async def forget(self, owner: str) -> int:
        """Removes all values of an owner, and refuses new ones for ``FORGOTTEN_SECONDS``; returns how many.

        A call that was under way when the user was forgotten thus brings nothing back.

        Raises:
            StoreError: the store is down.
        """
        ...


class Leases(Protocol):
    """Leases: at most one holder per key, until it gives the key back or its time is over."""

    async def take(self, key: str, holder: str, ttl: float) -> bool:
        """Gives ``holder`` the key for ``ttl`` seconds from now; returns False if the key has another holder.

        Raises:
            StoreError: the store is down.
        """
        ...

    async def release(self, key: str, holder: str) -> None:
        """Gives the key back; does nothing if it belongs to another holder by now.

        Raises:
            StoreError: the store is down.
        """
        ...


@dataclass(frozen=True, slots=True)
class Flow:
    """An amount to draw from a token bucket, which refills steadily.

    Attributes:
        key: name of the bucket.
        amount: amount to draw, in the bucket's unit (calls or tokens); a negative one is given back.
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
        limit: highest total that is allowed, in the unit of the amount (US dollars).
        ttl: seconds after which a total that is not added to is dropped.
        own: sum that this process has added so far, from its own memory. A store that was restarted has lost
            the total, and restores it from these sums.
    """

    key: str
    amount: float
    limit: float
    ttl: float
    own: float = 0.0


# The Redis script DRAW gets the same number as an argument.
BURST = 10.0
"""Capacity of a bucket, in seconds of its refill: a draw beyond what it holds waits until it has refilled."""


class Meters(Protocol):
    """Enforces rates and totals for all processes that share the store."""

    async def draw(self, flows: Sequence[Flow], patience: float) -> float | None:
        """Draws all of the flows, or none; a caller may have to wait before it uses what it drew.

        An amount larger than a bucket waits until the bucket is full, and leaves it in debt, for which later
        draws wait.

        Args:
            flows: amounts to draw.
            patience: seconds that the caller can wait at most.

        Returns:
            Seconds that the caller has to wait before it uses what it drew; None if that is more than
            ``patience``, and then nothing was drawn.

        Raises:
            StoreError: the store is down.
        """
        ...

    async def correct(self, flows: Sequence[Flow]) -> None:
        """Draws without a limit on the wait, because a call used another amount than was drawn for it.

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
        """Adds to all totals, even beyond their limits.

        Raises:
            StoreError: the store is down.
        """
        ...
