"""Keeps users' events in a Redis of its own, which several machines share."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, cast
from urllib.parse import quote

from service.stores.base import owner_of
from service.stores.events import (
    FORGOTTEN_RECORD_SECONDS,
    MAX_EVENTS_PER_USER,
    Appended,
    Event,
    EventsUsage,
    StoreFullError,
)
from service.stores.redis import RedisConnection, WrongTypeError
from service.stores.redis_server.event_scripts import APPEND, EXPIRE, FORGET

USAGE_AGE, USAGE_EVENTS = 1.0, 2_000
"""Seconds, and events of this process, after which the server's memory is measured again."""

RESERVE = 0.1
"""Part of the server's ``maxmemory`` that is left to users who have events already."""

FORGOTTEN_AT_ONCE = 500
"""Records of forgotten users that are read at once; who reads them all asks again."""

EXPIRED_AT_ONCE = 100
"""Users whose old events one call drops; Redis answers no other client meanwhile."""


class RedisEvents:
    """Events of one catalogue in Redis; its append-only file is what is kept when the server dies.

    Args:
        connection: connection to a server without eviction.
        dataset: name of the catalogue's data set, which is in all keys, so that several may share a server.
        max_users: users from which on new ones are refused.
        max_bytes: bytes of the server's memory from which on new users are refused.
        retention: seconds after its timestamp at which an event is dropped; None for never. Events before
            1970, which were taken over without their times, stay.
        unreadable: function that is told how many values were left out since this store did not write them.
    """

    def __init__(
        self,
        connection: RedisConnection,
        dataset: str,
        *,
        max_users: int,
        max_bytes: int,
        retention: float | None = None,
        unreadable: Callable[[int], None] | None = None,
    ) -> None:
        self._connection = connection
        # The braces keep the keys of a data set together where a server distributes keys.
        self._prefix = f"msr:kept:{{{quote(dataset, safe='')}}}"
        self._max_users = max_users
        self._max_bytes = max_bytes
        self._retention = retention
        self._unreadable = unreadable
        self._bytes = self._maxmemory = 0
        self._measured_at = float("-inf")  # monotonic seconds
        self._appended = 0  # events since then

    async def append(self, events: Sequence[Event]) -> Appended:
        """Stores a batch: all of it or, on failure, nothing; see ``Events.append``.

        Raises:
            StoreFullError: a user of the batch is new and the store at its cap, or the server has no memory.
            StoreError: the server is down or cannot write.
        """
        by_user: dict[str, list[Event]] = {}
        for event in events:
            by_user.setdefault(event.user_id, []).append(event)
        keys = [self._key("users"), self._key("arrivals")]
        arguments: list[str | bytes] = []
        for user_id, own in by_user.items():
            keys.extend(self._user_keys(user_id))
            arguments += (_encoded(user_id), str(len(own)))
            for event in own:
                arguments += (str(event.timestamp), _encoded(event.item_id), _encoded(event.event_id or ""))
        limits = [
            str(self._max_users),
            str(int(await self._has_room())),
            str(MAX_EVENTS_PER_USER),
            self._cutoff(),
        ]
        reply = await self._connection.run(APPEND, keys, [*limits, *arguments])
        if reply[0] == 1:
            raise StoreFullError(
                f"{self._max_users} users have events (MSR_EVENTS_MAX_USERS), and new ones are refused"
            )
        if reply[0] == 2:
            raise StoreFullError(
                "the events' Redis is nearly out of memory (MSR_EVENTS_MAX_BYTES or its own maxmemory), and "
                "new users are refused"
            )
        _, stored, repeated, dropped, aside = reply
        self._appended += stored
        self._count_unreadable(aside)
        return Appended(stored, repeated, int(dropped))

    async def get(self, user_id: str) -> list[str]:
        """Returns the ids of the user's items, oldest first; none for an unknown user.

        Raises:
            StoreError: the server is down.
        """
        try:
            members = await self._connection.ask(self._get(user_id))
        except WrongTypeError:  # the key is another program's
            members = [b""]
        found = [item_id for item_id in map(_item_id, members) if item_id is not None]
        self._count_unreadable(len(members) - len(found))
        return found

    async def _get(self, user_id: str) -> list[bytes]:
        key = self._user_keys(user_id)[0]
        found = await self._connection.client.zrange(
            key, -MAX_EVENTS_PER_USER, -1, withscores=self._retention is not None
        )
        if self._retention is None:
            return cast("list[bytes]", found)
        cutoff = int(self._cutoff())
        timed = cast("list[tuple[bytes, float]]", found)
        return [member for member, timestamp in timed if timestamp < 0 or timestamp >= cutoff]

    async def forget(self, user_id: str) -> bool:
        """Removes all that is stored of a user, also when memory is full; returns whether there was anything.

        Raises:
            StoreError: the server is down or cannot write.
        """
        keys = [self._key("users"), self._key("forgotten"), *self._user_keys(user_id)]
        arguments: list[str | bytes] = [
            _encoded(user_id),
            owner_of(user_id),
            str(FORGOTTEN_RECORD_SECONDS),
        ]
        return bool(await self._connection.run(FORGET, keys, arguments))

    async def forgotten_since(self, number: int) -> tuple[int, list[str]]:
        """Returns the next owners that were forgotten after ``number``, and the number of the last one.

        Raises:
            StoreError: the server is down.
        """
        found = await self._connection.ask(self._forgotten_since(number))
        return (int(found[-1][1]) if found else number), [owner.decode() for owner, _ in found]

    async def _forgotten_since(self, number: int) -> list[tuple[bytes, float]]:
        records = self._connection.client.zrangebyscore(
            self._key("forgotten"), f"({number}", "+inf", start=0, num=FORGOTTEN_AT_ONCE, withscores=True
        )
        return cast("list[tuple[bytes, float]]", await records)

    async def usage(self) -> EventsUsage:
        """Returns how full the store is; its bytes are all that the server holds.

        Raises:
            StoreError: the server is down.
        """
        users = await self._connection.ask(self._users())
        await self._measure()
        return EventsUsage(users, self._max_users, self._bytes, self._byte_limit())

    async def _users(self) -> int:
        return await self._connection.client.zcard(self._key("users"))

    async def drop_expired(self) -> int:
        """Drops the events that are older than the retention; returns their number.

        Raises:
            StoreError: the server is down or cannot write.
        """
        dropped, cutoff = 0, self._cutoff()
        while cutoff:
            users = await self._connection.ask(self._users_before(cutoff))
            if not users:
                break
            keys = [key for user in users for key in self._user_keys(user)]
            dropped += await self._connection.run(EXPIRE, [self._key("users"), *keys], [cutoff, *users])
        return dropped

    async def _users_before(self, cutoff: str) -> list[bytes]:
        found = self._connection.client.zrangebyscore(
            self._key("users"), 0, f"({cutoff}", start=0, num=EXPIRED_AT_ONCE
        )
        return cast("list[bytes]", await found)

    async def trouble(self) -> str | None:
        """Returns what keeps the server from storing events, as a clause; None if nothing does."""
        return await self._connection.trouble()

    async def _has_room(self) -> bool:
        """Returns whether the server has memory for a new user, as far as it tells."""
        if time.monotonic() - self._measured_at >= USAGE_AGE or self._appended >= USAGE_EVENTS:
            await self._measure()
        return self._bytes < self._byte_limit()

    async def _measure(self) -> None:
        self._bytes, self._maxmemory = await self._connection.memory()
        self._measured_at, self._appended = time.monotonic(), 0

    def _byte_limit(self) -> int:
        limit = int(self._maxmemory * (1 - RESERVE))
        return min(self._max_bytes, limit) if limit else self._max_bytes

    def _cutoff(self) -> str:
        """Returns the timestamp before which events are dropped; empty for none."""
        return "" if self._retention is None else str(max(0, int(time.time() - self._retention)))

    def _count_unreadable(self, number: int) -> None:
        if number and self._unreadable is not None:
            self._unreadable(number)

    def _key(self, name: str) -> str:
        return f"{self._prefix}:{name}"

    def _user_keys(self, user_id: str | bytes) -> list[Any]:
        """Returns the keys of a user's events and of their identities."""
        user = user_id if isinstance(user_id, bytes) else _encoded(user_id)
        return [f"{self._prefix}:{kind}:".encode() + user for kind in ("events", "identities")]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # a lone surrogate is a character that JSON can carry


def _item_id(member: bytes) -> str | None:
    """Returns the item id of a member as ``APPEND`` writes it; None for a value that it did not write."""
    try:
        _, length, rest = member.split(b":", 2)
        size = int(length)
        return rest[:size].decode("utf-8", "surrogatepass") if 0 < size <= len(rest) else None
    except ValueError:  # UnicodeDecodeError is one
        return None
