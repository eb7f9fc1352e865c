"""Keeps users' events in SQLite: one file of one machine, which all of its workers read and write."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.outages import Outage
from service.stores.base import StoreError, owner_of
from service.stores.events import MAX_EVENTS_PER_USER, Appended, Event, EventsUsage, StoreFullError
from service.stores.sqlite_file import SET_ASIDE, connect, is_damage, prepare, use_lock
from service.stores.sqlite_lists import RecentLists, UserList, position_of
from service.stores.sqlite_writer import SqliteWriter, Written, free_bytes

log = logging.getLogger(__name__)

READERS = 2
"""Threads that read what is not in memory: one that waits for the disk does not hold up the other."""

FORGOTTEN_SECONDS = 3_600
"""Seconds for which it is on record who was forgotten."""

RESERVE_BYTES, RESERVE_SHARE = 67_108_864, 0.05
"""Free disk below which new users are refused: these bytes, or this share of the disk where that is less."""

EXPIRY_SECONDS, EXPIRY_USERS = 1.0, 500
"""Seconds between two looks for events that are too old, and users that each of them covers."""

_USER = "SELECT id, events, next_arrival FROM users WHERE name = ?"
_INSERT_ONCE = """
INSERT INTO events (user, timestamp, item_id, arrival) SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS (
    SELECT 1 FROM events WHERE user = ?1 AND timestamp = ?2 AND item_id = ?3 AND event_id IS NULL)
"""
_INSERT_NAMED = (
    "INSERT OR IGNORE INTO events (user, timestamp, item_id, arrival, event_id) VALUES (?, ?, ?, ?, ?)"
)
_OLDEST = "SELECT timestamp, item_id, arrival FROM events WHERE user = ? ORDER BY timestamp, arrival LIMIT ?"
_DELETE = "DELETE FROM events WHERE user = ? AND timestamp = ? AND item_id = ? AND arrival = ?"
_READ = """
SELECT timestamp, item_id FROM events WHERE user = (SELECT id FROM users WHERE name = ?)
ORDER BY timestamp, arrival
"""


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
        self._use.share()
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
        found: tuple[int, list[str]] = await self._in_thread(_forgotten_since, number)
        return found

    async def usage(self) -> EventsUsage:
        """Returns how full the file is.

        Raises:
            StoreError: it cannot be read.
        """
        users, used = await self._in_thread(_usage)
        return EventsUsage(users, self._limits.users, used, self._limits.bytes)

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
            rows = _rows(connection, name)
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
        known = {user_id: connection.execute(_USER, (user_id,)).fetchall() for user_id in by_user}
        new = [user_id for user_id, rows in known.items() if not rows]
        if new:
            self._admit(connection, len(new))
        changed = []
        for user_id, of_user in by_user.items():
            if rows := known[user_id]:
                user, kept, arrival = rows[0]
            else:
                added = connection.execute(
                    "INSERT INTO users (name, events, next_arrival) VALUES (?, 0, 0)", (user_id,)
                )
                user, kept, arrival = added.lastrowid, 0, 0
            inserted = _insert(connection, user, arrival, of_user)
            if not inserted:
                continue
            gone = _drop_oldest(connection, user, kept + inserted - MAX_EVENTS_PER_USER)
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
        users, used = _usage(connection)
        limits, go_on = self._limits, "users who have events already go on"
        if users + new > limits.users:
            raise StoreFullError(
                f"{users} of {limits.users} users (MSR_EVENTS_MAX_USERS) have events; {go_on}"
            )
        if used >= limits.bytes:
            raise StoreFullError(
                f"the events take {used} of {limits.bytes} bytes (MSR_EVENTS_MAX_BYTES); {go_on}"
            )
        disk = os.statvfs(self._path.parent)
        reserve = min(RESERVE_BYTES, int(RESERVE_SHARE * disk.f_blocks * disk.f_frsize))
        if free_bytes(self._path.parent) < reserve:
            raise StoreFullError(f"the disk of the events has less than {reserve} bytes left; {go_on}")
        connection.execute("UPDATE totals SET users = users + ?", (new,))

    async def _expire(self) -> None:
        """Removes events that are too old, a few users at a time, round and round."""
        after = 0
        while True:
            await asyncio.sleep(EXPIRY_SECONDS)
            try:
                oldest = int(time.time() - (self._limits.retention or 0))
                after, overdue = await self._in_thread(_overdue, after, oldest)
                if overdue:
                    await self._writer.run(lambda connection: _expire(connection, overdue, oldest))  # noqa: B023
            except StoreError:  # logged by what raised it
                continue


def _insert(connection: sqlite3.Connection, user: int, arrival: int, events: Sequence[Event]) -> int:
    """Inserts events of one user that it does not have yet; returns how many."""
    inserted = 0
    places = itertools.count(arrival)
    rows = [(user, each.timestamp, each.item_id, next(places), each.event_id) for each in events]
    for named, run in itertools.groupby(rows, key=lambda row: row[4] is not None):
        if named:
            inserted += connection.executemany(_INSERT_NAMED, run).rowcount
        else:
            inserted += connection.executemany(_INSERT_ONCE, (row[:4] for row in run)).rowcount
    return inserted


def _drop_oldest(connection: sqlite3.Connection, user: int, excess: int) -> int:
    """Removes the oldest events of a user; returns how many."""
    if excess <= 0:
        return 0
    oldest = connection.execute(_OLDEST, (user, excess)).fetchall()
    connection.executemany(_DELETE, ((user, *row) for row in oldest))
    return len(oldest)


def _rows(connection: sqlite3.Connection, user_id: str | None) -> list[tuple[object, object]]:
    """Returns timestamp and item of a user's events, as they are in the file."""
    try:
        return connection.execute(_READ, (user_id,)).fetchall()
    except sqlite3.OperationalError as error:
        if "decode" not in str(error):  # Python's own message for text that is not UTF-8
            raise
    connection.text_factory = bytes
    try:
        raw = connection.execute(_READ, (user_id,)).fetchall()
    finally:
        connection.text_factory = str
    return [(at, _decoded(item_id)) for at, item_id in raw]


def _decoded(text: object) -> object:
    if not isinstance(text, bytes):
        return text
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None


def _forget(connection: sqlite3.Connection, user_id: str) -> Written[bool]:
    connection.execute("PRAGMA secure_delete = ON")  # what is removed is overwritten with zeros
    try:
        rows = connection.execute(_USER, (user_id,)).fetchall()
        for user, *_ in rows:
            connection.execute("DELETE FROM events WHERE user = ?", (user,))
            connection.execute("DELETE FROM users WHERE id = ?", (user,))
            connection.execute("UPDATE totals SET users = users - 1")
        # Also without events: there may be cached answers.
        now = int(time.time())
        connection.execute("DELETE FROM forgotten WHERE at < ?", (now - FORGOTTEN_SECONDS,))
        connection.execute("INSERT INTO forgotten (owner, at) VALUES (?, ?)", (owner_of(user_id), now))
    finally:
        connection.execute("PRAGMA secure_delete = OFF")
    return Written(bool(rows), [user_id] if rows else [], erased=bool(rows))


def _forgotten_since(connection: sqlite3.Connection, number: int) -> tuple[int, list[str]]:
    rows = connection.execute(
        "SELECT number, owner FROM forgotten WHERE number > ? ORDER BY number", (number,)
    ).fetchall()
    # The numbers go on after the records are gone, so a caller that was told a number never misses one.
    return (rows[-1][0] if rows else number), [owner for _, owner in rows]


def _usage(connection: sqlite3.Connection) -> tuple[int, int]:
    """Returns users, and bytes of the file that are not free."""
    users, pages, free, size = (
        connection.execute(query).fetchall()[0][0]
        for query in (
            "SELECT users FROM totals",
            "PRAGMA page_count",
            "PRAGMA freelist_count",
            "PRAGMA page_size",
        )
    )
    return users, (pages - free) * size


def _overdue(connection: sqlite3.Connection, after: int, oldest: int) -> tuple[int, list[int]]:
    """Returns the last of the next few users (0 for the last of all), and those whose events are too old."""
    rows = connection.execute(
        "SELECT id, (SELECT min(timestamp) FROM events WHERE user = users.id AND timestamp >= 0) FROM users "
        "WHERE id > ? ORDER BY id LIMIT ?",
        (after, EXPIRY_USERS),
    ).fetchall()
    last = rows[-1][0] if len(rows) == EXPIRY_USERS else 0
    return last, [user for user, first in rows if first is not None and first <= oldest]


def _expire(connection: sqlite3.Connection, users: Sequence[int], oldest: int) -> Written[None]:
    changed = list(_expired(connection, users, oldest))
    return Written(None, changed)


def _expired(connection: sqlite3.Connection, users: Sequence[int], oldest: int) -> Iterator[str]:
    for user in users:
        row = connection.execute("SELECT name, events FROM users WHERE id = ?", (user,)).fetchall()
        if not row:  # forgotten meanwhile
            continue
        (name, kept) = row[0]
        gone = connection.execute(
            "DELETE FROM events WHERE user = ? AND timestamp BETWEEN 0 AND ?", (user, oldest)
        ).rowcount
        if gone >= kept:
            connection.execute("DELETE FROM users WHERE id = ?", (user,))
            connection.execute("UPDATE totals SET users = users - 1")
        else:
            connection.execute("UPDATE users SET events = ? WHERE id = ?", (kept - gone, user))
        yield name
