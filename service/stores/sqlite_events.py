"""Keeps users' events in SQLite: one file of one machine, which all of its workers read and write."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import ConfigurationError
from service.outages import Outage
from service.stores import sqlite_statements as statements
from service.stores.base import StoreError
from service.stores.events import MAX_EVENTS_PER_USER, Appended, Event, EventsUsage, StoreFullError
from service.stores.sqlite_file import SET_ASIDE, connect, is_damage, prepare, use_lock
from service.stores.sqlite_recent_lists import RecentLists, UserList, position_of
from service.stores.sqlite_writer import SqliteWriter, Written, free_bytes

log = logging.getLogger(__name__)

READERS = 2
"""Threads that read what is not in memory: one that waits for the disk does not hold up the other."""

RESERVE_BYTES, RESERVE_SHARE = 67_108_864, 0.05
"""Free disk below which new users are refused: these bytes, or this share of the disk where that is less."""

EXPIRY_SECONDS = 1.0
"""Seconds between two looks for events that are too old."""


@dataclass(frozen=True, slots=True)
class EventsLimits:
    """How much the store takes.

    Attributes:
        users: users from which on new ones are refused.
        bytes: bytes of the file from which on new users are refused.
        retention: seconds after its timestamp at which an event is no longer read; None for never. Events
            without a time (negative timestamps) stay.
        lists: bytes of memory for the lists that were read last.
    """

    users: int = 1_000_000
    bytes: int = 10_737_418_240
    retention: int | None = None
    lists: int = 33_554_432


class SqliteEvents:
    """The events of one catalogue. Make it in the event loop that uses it.

    Args:
        path: file of the events; made if it is missing.
        limits: how much it takes.
        fsync_seconds: seconds of acknowledged events that a power loss may take; 0 for none.
        unreadable: function that is told how many values of a user were left out since we did not write them.

    Raises:
        ConfigurationError: the file cannot be used; the message says what to do.
    """

    def __init__(
        self,
        path: Path,
        limits: EventsLimits | None = None,
        *,
        fsync_seconds: float = 1.0,
        unreadable: Callable[[int], None] = lambda count: None,
    ) -> None:
        prepare(path)
        self._path = path
        self._limits = limits or EventsLimits()
        self._unreadable = unreadable
        self._use = use_lock(path)
        try:
            self._use.share()
        except StoreError as error:
            raise ConfigurationError(f"MSR_DATA: {path}: {error}") from None
        self._writer = SqliteWriter(path, fsync_seconds)
        self._recent = RecentLists(path, self._limits.lists)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="events-reader")
        self._of_thread = threading.local()  # .connection: the one of a reading thread
        self._connections: list[sqlite3.Connection] = []
        self._outage = Outage("the store of events", log)
        self._expiring: asyncio.Task[None] | None = None
        if self._limits.retention is not None:
            self._expiring = asyncio.get_running_loop().create_task(self._expire())

    async def append(self, events: Sequence[Event]) -> Appended:
        """Stores a batch as ``Events.append`` does.

        Raises:
            StoreFullError: a user of the batch is new and the store is at its cap, or the disk is full.
            StoreError: it cannot be written.
        """
        return await self._writer.run(lambda connection: self._append(connection, events), len(events))

    async def get(self, user_id: str) -> Sequence[str]:
        """Returns the ids of the user's items, oldest first; none for an unknown user.

        Raises:
            StoreError: it cannot be read.
        """
        try:
            found = self._recent.get(user_id)
        except sqlite3.Error:  # busy, or damaged: the thread waits, or says so
            self._recent.clear()
        else:
            if found is not None:
                return found
        read: UserList = await self._in_thread(self._read, user_id)
        self._recent.put(user_id, read)
        return read.item_ids

    async def forget(self, user_id: str) -> bool:
        """Removes all that is stored of a user, from free pages and the log too; returns whether there was.

        Raises:
            StoreError: it cannot be written; nothing was removed.
        """
        return await self._writer.run(lambda connection: _forget(connection, user_id))

    async def forgotten_since(self, number: int) -> tuple[int, list[str]]:
        """Returns whom ``forget`` was called for, as ``Events.forgotten_since`` does.

        Raises:
            StoreError: it cannot be read.
        """
        found: tuple[int, list[str]] = await self._in_thread(statements.forgotten_since, number)
        return found

    async def usage(self) -> EventsUsage:
        """Returns how full the file is; a disk with less room than the limit is what limits it.

        Raises:
            StoreError: it cannot be read.
        """
        users, used, room = await self._in_thread(self._usage)
        limits = self._limits
        return EventsUsage(users, limits.users, used, min(limits.bytes, used + room))

    async def trouble(self) -> str | None:
        """Returns what is wrong with the store, in a clause without secrets; None if nothing is."""
        return self._writer.trouble

    async def close(self) -> None:
        """Waits for what is being written and closes the file."""
        if self._expiring is not None:
            self._expiring.cancel()
            await asyncio.wait([self._expiring])
        await self._writer.close()
        self._recent.close()
        self._readers.shutdown(wait=True)
        for connection in self._connections:
            connection.close()
        self._use.close()

    async def _in_thread(self, read: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a function with the connection of a reading thread."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._readers, self._with_connection, read, *arguments)
        except (sqlite3.Error, OSError, TypeError, ValueError) as error:
            if is_damage(error):
                self._outage.failed(
                    "the file of events is damaged (%s): stop the service and %s", error, SET_ASIDE
                )
            else:
                self._outage.failed("events cannot be read (%s: %s)", type(error).__name__, error)
            raise StoreError(f"events cannot be read: {type(error).__name__}") from None
        self._outage.works()
        return found

    def _with_connection(self, read: Callable[..., Any], *arguments: Any) -> Any:
        connection: sqlite3.Connection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            connection = self._of_thread.connection = connect(self._path, reads_only=True)
            self._connections.append(connection)
        return read(connection, *arguments)

    def _read(self, connection: sqlite3.Connection, user_id: str) -> UserList:
        name: str | None = user_id
        try:
            user_id.encode()
        except UnicodeEncodeError:  # half of a surrogate pair: no user has such an id
            name = None
        # One transaction, so that the list is that of the position.
        connection.execute("BEGIN")
        try:
            position = position_of(connection)
            rows = statements.rows(connection, name)
        finally:
            connection.execute("COMMIT")
        readable = [(at, item_id) for at, item_id in rows if type(at) is int and type(item_id) is str]
        if len(readable) < len(rows):
            self._unreadable(len(rows) - len(readable))
        retention, expires = self._limits.retention, float("inf")
        if retention is not None:
            oldest = time.time() - retention
            readable = [(at, item_id) for at, item_id in readable if at < 0 or at > oldest]
            expires = min((at + retention for at, _ in readable if at >= 0), default=expires)
        return UserList.of((item_id for _, item_id in readable[-MAX_EVENTS_PER_USER:]), expires, position)

    def _append(self, connection: sqlite3.Connection, events: Sequence[Event]) -> Written[Appended]:
        stored = dropped = 0
        by_user: dict[str, list[Event]] = {}
        for event in events:
            by_user.setdefault(event.user_id, []).append(event)
        known = {user_id: statements.find_user(connection, user_id) for user_id in by_user}
        if new := sum(found is None for found in known.values()):
            self._admit(connection, new)
        changed = []
        for user_id, of_user in by_user.items():
            if found := known[user_id]:
                user, kept, arrival = found
            else:
                added = connection.execute(
                    "INSERT INTO users (name, events, next_arrival) VALUES (?, 0, 0)", (user_id,)
                )
                user, kept, arrival = added.lastrowid or 0, 0, 0
            inserted = statements.insert(connection, user, arrival, of_user)
            if not inserted:
                continue
            gone = statements.drop_oldest(connection, user, kept + inserted - MAX_EVENTS_PER_USER)
            connection.execute(
                "UPDATE users SET events = ?, next_arrival = ? WHERE id = ?",
                (kept + inserted - gone, arrival + len(of_user), user),
            )
            changed.append(user_id)
            stored += inserted
            dropped += gone
        return Written(Appended(stored, len(events) - stored, dropped), changed)

    def _admit(self, connection: sqlite3.Connection, new: int) -> None:
        """Counts new users in.

        Raises:
            StoreFullError: there is no room for them.
        """
        users, used = statements.usage(connection)
        limits, go_on = self._limits, "users who have events already go on"
        if users + new > limits.users:
            raise StoreFullError(
                f"{users} of {limits.users} users (MSR_EVENTS_MAX_USERS) have events; {go_on}"
            )
        if used >= limits.bytes:
            raise StoreFullError(
                f"the events take {used} of {limits.bytes} bytes (MSR_EVENTS_MAX_BYTES); {go_on}"
            )
        reserve = self._reserve()
        if free_bytes(self._path.parent) < reserve:
            raise StoreFullError(f"the disk of the events has less than {reserve} bytes left; {go_on}")
        connection.execute("UPDATE totals SET users = users + ?", (new,))

    def _usage(self, connection: sqlite3.Connection) -> tuple[int, int, int]:
        """Returns users, bytes, and bytes of the disk that are left until new users are refused."""
        room = free_bytes(self._path.parent) - self._reserve()
        return *statements.usage(connection), max(0, room)

    def _reserve(self) -> int:
        disk = os.statvfs(self._path.parent)
        return min(RESERVE_BYTES, int(RESERVE_SHARE * disk.f_blocks * disk.f_frsize))

    async def _expire(self) -> None:
        """Removes events that are too old, a few users at a time, round and round."""
        after = 0
        while True:
            await asyncio.sleep(EXPIRY_SECONDS)
            try:
                oldest = int(time.time() - (self._limits.retention or 0))
                after, overdue = await self._in_thread(statements.overdue, after, oldest)
                if overdue:
                    await self._writer.run(lambda connection: _expire(connection, overdue, oldest))  # noqa: B023
            except StoreError:  # logged by what raised it
                continue


def _forget(connection: sqlite3.Connection, user_id: str) -> Written[bool]:
    found = statements.forget(connection, user_id)
    return Written(found, [user_id] if found else [], erased=found)


def _expire(connection: sqlite3.Connection, users: Sequence[int], oldest: int) -> Written[None]:
    return Written(None, list(statements.expired(connection, users, oldest)))
