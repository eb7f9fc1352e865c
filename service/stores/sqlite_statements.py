"""Reads and writes the events' file through a connection: the statements of one transaction."""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections.abc import Iterator, Sequence

from service.stores.base import owner_of
from service.stores.events import FORGOTTEN_RECORD_SECONDS, Event

FORGOTTEN_AT_ONCE = 500
"""Records of forgotten users that are read at once; who reads them all asks again."""

EXPIRY_USERS = 500
"""Users that one look for events that are too old covers."""

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


def find_user(connection: sqlite3.Connection, user_id: str) -> tuple[int, int, int] | None:
    """Returns a user's number, how many events it has, and the place of its next one; None for a new user."""
    rows = connection.execute(_USER, (user_id,)).fetchall()
    if not rows:
        return None
    user, kept, arrival = rows[0]
    if type(kept) is int and type(arrival) is int:
        return user, kept, arrival
    # Not as we wrote it.
    count = "SELECT count(*), coalesce(max(arrival) + 1, 0) FROM events WHERE user = ?"
    return (user, *connection.execute(count, (user,)).fetchall()[0])


def insert(connection: sqlite3.Connection, user: int, arrival: int, events: Sequence[Event]) -> int:
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


def drop_oldest(connection: sqlite3.Connection, user: int, excess: int) -> int:
    """Removes the oldest events of a user; returns how many."""
    if excess <= 0:
        return 0
    oldest = connection.execute(_OLDEST, (user, excess)).fetchall()
    connection.executemany(_DELETE, ((user, *row) for row in oldest))
    return len(oldest)


def rows(connection: sqlite3.Connection, user_id: str | None) -> list[tuple[object, object]]:
    """Returns timestamp and item of a user's events, as they are in the file."""
    try:
        return connection.execute(_READ, (user_id,)).fetchall()
    except sqlite3.OperationalError as error:
        if "decode" not in str(error):  # Python's own message for text that is not UTF-8
            raise
    connection.text_factory = _decoded
    try:
        return connection.execute(_READ, (user_id,)).fetchall()
    finally:
        connection.text_factory = str


def _decoded(text: bytes) -> str | None:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None


def forget(connection: sqlite3.Connection, user_id: str) -> bool:
    """Removes a user and puts that on record; returns whether there was anything."""
    rows = connection.execute(_USER, (user_id,)).fetchall()
    for user, *_ in rows:
        connection.execute("DELETE FROM events WHERE user = ?", (user,))
        connection.execute("DELETE FROM users WHERE id = ?", (user,))
        connection.execute("UPDATE totals SET users = users - 1")
    # Also without events: there may be cached answers.
    now = int(time.time())
    connection.execute("INSERT INTO forgotten (owner, at) VALUES (?, ?)", (owner_of(user_id), now))
    # They are in the order of their times, so only those that go are looked at, and one more.
    connection.execute(
        "DELETE FROM forgotten WHERE number < "
        "(SELECT number FROM forgotten WHERE at >= ? ORDER BY number LIMIT 1)",
        (now - FORGOTTEN_RECORD_SECONDS,),
    )
    return bool(rows)


def forgotten_since(connection: sqlite3.Connection, number: int) -> tuple[int, list[str]]:
    """Returns the number of the last of the next records after one, or that one, and whom they name."""
    rows = connection.execute(
        "SELECT number, owner FROM forgotten WHERE number > ? ORDER BY number LIMIT ?",
        (number, FORGOTTEN_AT_ONCE),
    ).fetchall()
    # The numbers go on after the records are gone, so a caller that was told a number never misses one.
    return (rows[-1][0] if rows else number), [owner for _, owner in rows]


def usage(connection: sqlite3.Connection) -> tuple[int, int]:
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


def overdue(connection: sqlite3.Connection, after: int, oldest: int) -> tuple[int, list[int]]:
    """Returns the last of the next few users (0 for the last of all), and those whose events are too old."""
    rows = connection.execute(
        "SELECT id, (SELECT min(timestamp) FROM events WHERE user = users.id AND timestamp >= 0) FROM users "
        "WHERE id > ? ORDER BY id LIMIT ?",
        (after, EXPIRY_USERS),
    ).fetchall()
    last = rows[-1][0] if len(rows) == EXPIRY_USERS else 0
    return last, [user for user, first in rows if first is not None and first <= oldest]


def expired(connection: sqlite3.Connection, users: Sequence[int], oldest: int) -> Iterator[str]:
    """Removes the events of users up to a time, and users without any left; yields the names of the users."""
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
