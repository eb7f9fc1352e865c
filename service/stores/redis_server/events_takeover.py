"""Takes over the events of earlier versions, which kept lists of item ids in the cache's Redis."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import cast

from models.contracts.ids import MAX_ID_CHARACTERS
from service.stores.base import Cache, Leases, StoreError, owner_of
from service.stores.events import MAX_EVENTS_PER_USER, Event, Events, StoreFullError
from service.stores.redis import RedisConnection, WrongTypeError

log = logging.getLogger(__name__)

PREFIX = b"msr:events:"  # a list's key goes on with the user's id
LEASE_SECONDS = 60.0
"""Seconds after which another worker takes over from one that was killed."""

USER_LEASE_SECONDS = 30.0
"""Seconds for which a list is held at most: while it is stored, or while its user is forgotten."""

PATIENCE = 3.0
"""Seconds for which a user who is to be forgotten waits for a list that is being stored."""

RETRY_SECONDS = 10.0
"""Seconds between two attempts of a worker that waits for another one, or for a store that is down."""

DONE_SECONDS = 3_600.0
"""Seconds for which workers that start do not look for lists again."""

_LEASE, _DONE = "events-takeover", "events-taken-over"


@dataclass(slots=True)
class TakenOver:
    """What became of the lists.

    Attributes:
        users: users whose lists were stored.
        events: item ids in those lists.
        left: lists that stay where they are: of another type, with entries or users that are no text, or
            of new users when the store is full.
    """

    users: int = 0
    events: int = 0
    left: int = 0


class OldEventLists:
    """The lists of item ids by user that earlier versions kept, oldest first and without times.

    Args:
        connection: connection to the cache's Redis.
        leases: leases in that Redis, so that one worker of all stores them.
        cache: cache in that Redis, where it is noted that they are stored.
    """

    def __init__(self, connection: RedisConnection, leases: Leases, cache: Cache) -> None:
        self._connection = connection
        self._leases = leases
        self._cache = cache
        self._holder = uuid.uuid4().hex

    async def take_over(self, events: Events) -> TakenOver | None:
        """Stores all lists as events before every other, and removes them.

        A worker that is killed leaves its list, and the next one stores it again, which changes nothing: each
        event's id says its place in the list and what came before.

        Returns:
            What became of them; None if another worker does it, or has done it lately.

        Raises:
            StoreError: a store is down; what is not stored stays in its list.
        """
        if await self.is_done() or not await self._renew():
            return None
        taken, cursor = TakenOver(), 0
        while True:
            cursor, keys = await self._connection.ask(self._scan(cursor))
            for key in keys:
                if not await self._renew():  # this worker was stopped for longer than the lease
                    return None
                await self._take(key, events, taken)
            if cursor == 0:
                break
        await self._cache.set(_DONE, b"1", DONE_SECONDS)
        await self._leases.release(_LEASE, self._holder)
        return taken

    async def is_done(self) -> bool:
        """Returns whether a worker has stored all lists lately.

        Raises:
            StoreError: the store is down.
        """
        return bool(await self._cache.get(_DONE))

    async def remove(self, user_id: str) -> bool:
        """Removes a user's list, so that it is not taken over any more; returns whether there was one.

        Raises:
            StoreError: the store is down, or the list is being stored just now.
        """
        key = PREFIX + user_id.encode("utf-8", "surrogatepass")
        if not await self._connection.ask(self._exists(key)):
            return False
        until = time.monotonic() + PATIENCE
        while True:
            async with self._held(user_id) as held:
                if held:
                    return bool(await self._connection.ask(self._delete(key)))
            if time.monotonic() > until:
                raise StoreError("the user's events of an earlier version are being stored just now")
            await asyncio.sleep(0.05)

    async def _renew(self) -> bool:
        return await self._leases.take(_LEASE, self._holder, LEASE_SECONDS)

    @asynccontextmanager
    async def _held(self, user_id: str) -> AsyncIterator[bool]:
        """Holds a user's list, for one worker and one purpose; yields False if another has it."""
        lease, holder = f"old-events:{owner_of(user_id)}", uuid.uuid4().hex
        held = await self._leases.take(lease, holder, USER_LEASE_SECONDS)
        try:
            yield held
        finally:
            if held:
                with suppress(StoreError):
                    await self._leases.release(lease, holder)

    async def _take(self, key: bytes, events: Events, taken: TakenOver) -> None:
        try:
            user_id = key.removeprefix(PREFIX).decode()
        except UnicodeDecodeError:
            taken.left += 1
            return
        async with self._held(user_id) as held:
            if not held:  # its user is being forgotten
                return
            try:
                entries = await self._connection.ask(self._read(key))
                batch = _events(user_id, entries)
                for start in range(0, len(batch), MAX_EVENTS_PER_USER):
                    await events.append(batch[start : start + MAX_EVENTS_PER_USER])
            except (WrongTypeError, StoreFullError):
                taken.left += 1
                return
            taken.users += bool(batch)
            taken.events += len(batch)
            if len(batch) < len(entries):
                taken.left += 1
            else:  # a worker of an earlier version may have added to it meanwhile
                await self._connection.ask(self._drop(key, len(entries)))

    async def _scan(self, cursor: int) -> tuple[int, list[bytes]]:
        found = await self._connection.client.scan(cursor, match=PREFIX + b"*", count=1_000)
        return int(found[0]), cast("list[bytes]", found[1])

    async def _read(self, key: bytes) -> list[bytes]:
        return await cast("Awaitable[list[bytes]]", self._connection.client.lrange(key, 0, -1))

    async def _drop(self, key: bytes, number: int) -> None:
        await cast("Awaitable[object]", self._connection.client.ltrim(key, number, -1))

    async def _exists(self, key: bytes) -> int:
        return await self._connection.client.exists(key)

    async def _delete(self, key: bytes) -> int:
        return await self._connection.client.delete(key)


async def take_over_in_background(lists: OldEventLists, events: Events) -> None:
    """Takes the lists over as soon as both stores are up, and logs once what became of them."""
    while True:
        with suppress(StoreError):  # logged by the store
            taken = await lists.take_over(events)
            if taken is not None and (taken.users or taken.left):
                log.info(
                    "taken over from an earlier version: %d events of %d users; %d lists stay where they are",
                    taken.events,
                    taken.users,
                    taken.left,
                )
            # A worker that does it may be killed before it is done.
            if taken is not None or await lists.is_done():
                return
        await asyncio.sleep(RETRY_SECONDS)


def _events(user_id: str, entries: Sequence[bytes]) -> list[Event]:
    """Returns the events of a list; entries that are no item ids are left out."""
    batch, before = [], hashlib.blake2b(digest_size=8)
    for number, entry in enumerate(entries):
        before.update(len(entry).to_bytes(4, "big") + entry)
        with suppress(UnicodeDecodeError):
            item_id = entry.decode()
            if 0 < len(item_id) <= MAX_ID_CHARACTERS:
                # Before every time that a client can give, in the order of the list.
                event_id = f"legacy:{number}:{before.hexdigest()}"
                batch.append(Event(user_id, item_id, number - len(entries), event_id))
    return batch
