"""Keeps in memory the item lists of users that were read last, and drops those that any process changes."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from service.stores.sqlite_file import connect
from service.stores.sqlite_writer import digest_of

DIGEST = 16
"""Bytes by which a record of changes names a user."""

FOLLOWED = 64
"""Records of changes that are followed; after more the lists are all dropped, which costs less."""


@dataclass(frozen=True, slots=True)
class UserList:
    """The items of one user, as they were at a moment.

    Attributes:
        item_ids: ids of the items, oldest first.
        expires: Unix time from which on the list must be read again, because its oldest event is too old.
        position: number of the last change that it includes.
    """

    item_ids: tuple[str, ...]
    expires: float
    position: int

    @classmethod
    def of(cls, item_ids: Iterable[str], expires: float, position: int) -> UserList:
        """Makes a list whose ids share their memory with those of other lists."""
        return cls(tuple(map(sys.intern, item_ids)), expires, position)


class RecentLists:
    """Lists by user, which follow the file's changes: what ``get`` returns is never older than the call.

    It asks SQLite whether anything was committed since (``PRAGMA data_version``, 3 µs, from shared memory),
    and if so which users: the records of changes were just written, so they are in memory too. Neither waits
    for a disk, and so both may be asked on the event loop. Reading in another thread costs 40 to 100 µs.

    Args:
        path: file of the events, prepared.
        max_bytes: bytes that the lists may take; the least recently used goes first.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._connection = connect(path, reads_only=True)
        self._connection.execute("PRAGMA busy_timeout = 0")  # the event loop never waits
        self._max_bytes = max_bytes
        self._bytes = 0
        self._lists: OrderedDict[str, UserList] = OrderedDict()
        self._users: dict[bytes, str] = {}  # by what a record of changes calls them
        self._version = -1
        self._position = 0

    def get(self, user_id: str) -> tuple[str, ...] | None:
        """Returns the user's items; None if they have to be read.

        Raises:
            sqlite3.Error: the file cannot be read at the moment.
        """
        self._follow()
        found = self._lists.get(user_id)
        if found is None:
            return None
        if found.expires <= time.time():
            self._remove(user_id)
            return None
        self._lists.move_to_end(user_id)
        return found.item_ids

    def put(self, user_id: str, read: UserList) -> None:
        """Keeps a list that was read, unless a change was followed that it may not include."""
        size = _size(user_id, read)
        if read.position < self._position or size > self._max_bytes:
            return
        self._remove(user_id)
        self._lists[user_id] = read
        self._users[digest_of(user_id)] = user_id
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._remove(next(iter(self._lists)))

    def clear(self) -> None:
        """Drops all lists."""
        self._lists.clear()
        self._users.clear()
        self._bytes = 0

    def close(self) -> None:
        """Closes the file."""
        self.clear()
        self._connection.close()

    def _follow(self) -> None:
        version = self._connection.execute("PRAGMA data_version").fetchall()[0][0]
        if version == self._version:
            return
        # All of the rows: a statement that is not read to its end would hold on to an old state of the file.
        changes = self._connection.execute(
            "SELECT id, owners FROM changes WHERE id > ? ORDER BY id DESC LIMIT ?",
            (self._position, FOLLOWED + 1),
        ).fetchall()
        if changes:
            gap = len(changes) > FOLLOWED or changes[-1][0] != self._position + 1
            if gap or not all(isinstance(owners, bytes) for _, owners in changes):
                self.clear()
            else:
                for _, owners in changes:
                    for at in range(0, len(owners), DIGEST):
                        user_id = self._users.get(owners[at : at + DIGEST])
                        if user_id is not None:
                            self._remove(user_id)
            self._position = changes[0][0]
        self._version = version

    def _remove(self, user_id: str) -> None:
        found = self._lists.pop(user_id, None)
        if found is not None:
            self._bytes -= _size(user_id, found)
            del self._users[digest_of(user_id)]


def _size(user_id: str, read: UserList) -> int:
    """Returns the bytes that a list takes, about: a reference per item, the user's id, and what is around."""
    return 8 * len(read.item_ids) + sys.getsizeof(user_id) + 400  # ids that clients make up may have 1 KB


def position_of(connection: sqlite3.Connection) -> int:
    """Returns the number of the last change, in the transaction of the connection."""
    return int(connection.execute("SELECT max(id) FROM changes").fetchall()[0][0] or 0)
