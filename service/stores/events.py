"""Defines the store of events: what users took after the bundle was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.stores.base import StoreError

MAX_EVENTS_PER_USER = 2_000
"""Events that are kept of one user; beyond them the oldest by timestamp go, and are counted as dropped."""

FORGOTTEN_RECORD_SECONDS = 3_600
"""Seconds for which other workers can learn that a user was forgotten; each asks every second."""


class StoreFullError(StoreError):
    """The store has no room for a batch: nothing of it was stored. The message says what is full."""


@dataclass(frozen=True, slots=True)
class Event:
    """One user took one item.

    Attributes:
        user_id: user, of 1 to 256 characters.
        item_id: item that the user took, of 1 to 256 characters.
        timestamp: when, in seconds since 1970; negative where only the order is known, before all others.
        event_id: the client's name of the event, unique for the user; None for an event whose user, item and
            timestamp are its identity.
    """

    user_id: str
    item_id: str
    timestamp: int
    event_id: str | None = None


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of a batch.

    Attributes:
        stored: events of the batch that are new.
        repeated: events of the batch that the store, or the batch itself, already had.
        dropped: events that went because their users have more than ``MAX_EVENTS_PER_USER``: the oldest ones,
            those of this batch included.
    """

    stored: int
    repeated: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class EventsUsage:
    """How full the store is.

    Attributes:
        users: users who have events.
        max_users: users from which on new ones are refused.
        bytes: bytes that the store takes.
        max_bytes: bytes from which on new users are refused; less than the setting on a disk without room.
    """

    users: int
    max_users: int
    bytes: int
    max_bytes: int


class Events(Protocol):
    """Keeps users' events in the order of their timestamps; events of one second in the order they came."""

    async def append(self, events: Sequence[Event]) -> Appended:
        """Stores a batch: all of it or, on failure, nothing. What it returned from is durable.

        An event with an id is repeated if its user has one of that id, whatever else it says; one without an
        id if its user has one without an id, of the same item and timestamp.

        Raises:
            StoreFullError: a user of the batch is new and the store is at its cap, or the disk is full.
            StoreError: the store is down.
        """
        ...

    async def get(self, user_id: str) -> Sequence[str]:
        """Returns the ids of the user's items, oldest first, at most the newest 2,000; none if unknown.

        Sees every batch whose ``append`` returned before the call, in whichever process.

        Raises:
            StoreError: the store is down.
        """
        ...

    async def forget(self, user_id: str) -> bool:
        """Removes all that is stored of a user; returns whether there was anything.

        Raises:
            StoreError: the store is down.
        """
        ...

    async def forgotten_since(self, number: int) -> tuple[int, list[str]]:
        """Returns whom ``forget`` was called for after a record's number: for caches that hold their answers.

        Records are kept for ``FORGOTTEN_RECORD_SECONDS``, and their numbers only grow.

        Args:
            number: number of the last record that the caller knows; 0 for none.

        Returns:
            The number of the last record that is returned (the caller's if there is none), and the
            ``owner_of`` each forgotten user. Some of them, where there are many: none are left once a call
            returns none.

        Raises:
            StoreError: the store is down.
        """
        ...

    async def usage(self) -> EventsUsage:
        """Returns how full the store is, for the metrics.

        Raises:
            StoreError: the store is down.
        """
        ...

    async def trouble(self) -> str | None:
        """Returns what keeps the store from storing events, as a clause; None if nothing does."""
        ...
