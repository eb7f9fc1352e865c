"""What the service asks of a place that keeps things: answers and captions for a while, and users' events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class StoreError(Exception):
    """The store cannot be reached or refused the operation; whoever reads treats it as a miss.

    The store itself says so in the log, as an ``Outage``: those who use it need not, and there are many.
    """


def reading_time(deadline: float) -> float:
    """Seconds of a request's deadline that reading a store may take: a slow one leaves time for the rest."""
    return max(0.025, 0.25 * deadline)


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


class Leases(Protocol):
    """Who is at work on what: at most one owner per key, until it gives the key back or its time is over."""

    async def take(self, key: str, owner: str, ttl: float) -> bool:
        """Become the owner for ``ttl`` seconds, or stay it for as long again; False if another one is.

        Raises:
            StoreError: the store is down.
        """
        ...

    async def release(self, key: str, owner: str) -> None:
        """Give the key back; nothing happens if it is not this owner's any more.

        Raises:
            StoreError: the store is down.
        """
        ...


@dataclass(frozen=True, slots=True)
class Flow:
    """An amount to draw from a bucket that refills steadily: "so many per minute".

    Attributes:
        key: of the bucket.
        amount: what to draw; negative gives back.
        per_minute: the refill.
    """

    key: str
    amount: float
    per_minute: float


@dataclass(frozen=True, slots=True)
class Sum:
    """An amount to add to a total that must not pass a limit.

    Attributes:
        key: of the total.
        amount: what to add; negative takes away.
        limit: the most that the total may be.
        ttl: seconds after which an untouched total is forgotten.
        own: what this process has added to it so far, as far as it remembers: a store that lost the total
            learns it again from those who spent it.
    """

    key: str
    amount: float
    limit: float
    ttl: float
    own: float = 0.0


BURST = 10.0
"""Seconds' worth of a flow that may be drawn at once after a rest."""


class Meters(Protocol):
    """Flows and totals with limits, shared by whoever shares the store."""

    async def draw(self, flows: Sequence[Flow], patience: float) -> float | None:
        """Draw all of the flows ahead of time, or none: who draws stands in line.

        An amount above ``BURST`` seconds' worth waits for a full bucket, and its debt delays those that
        follow.

        Args:
            flows: what to draw.
            patience: the most seconds that the caller can wait.

        Returns:
            Seconds that the caller has to wait before it takes what it drew; None if that is more than its
            patience, and then nothing was drawn.

        Raises:
            StoreError: the store is down.
        """
        ...

    async def correct(self, flows: Sequence[Flow]) -> None:
        """Draw without asking: what a call took turned out otherwise than expected.

        Raises:
            StoreError: the store is down.
        """
        ...

    async def add(self, sums: Sequence[Sum]) -> bool:
        """Add to all totals, or to none and return False if one of them would pass its limit.

        Raises:
            StoreError: the store is down.
        """
        ...

    async def settle(self, sums: Sequence[Sum]) -> None:
        """Add without asking for the limit.

        Raises:
            StoreError: the store is down.
        """
        ...
