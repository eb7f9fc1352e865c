"""Opens the SQLite file of a catalogue's events: its name, its schema and its versions, and what is refused.

SQLite's locks on the main file are POSIX locks, which a process loses with the first descriptor of that file
that it closes: it is opened through SQLite alone, never by ``open``.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from service.errors import ConfigurationError
from service.stores.base import StoreError

APPLICATION_ID = 0x4D535245
"""SQLite's ``application_id`` of our files: ``MSRE`` in ASCII."""

BUSY_SECONDS = 5.0
"""Seconds for which a writer waits for another process; then its transaction fails."""

CHECK_SECONDS = 2.0
"""Seconds that a start spends on reading the file's pages; what was not read by then is trusted."""

SET_ASIDE = "put it out of the way with `python -m service events set-aside`"

# `arrival` orders the events of one second; `next_arrival` and `events` of a user save counting. The key of
# `events` is the order in which they are read, and finds equal ones. `changes` tells other processes whose
# lists they must read again; `forgotten` whose cached answers they must drop.
VERSION_1 = (
    "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, events INTEGER NOT NULL, "
    "next_arrival INTEGER NOT NULL)",
    "CREATE TABLE events (user INTEGER NOT NULL, timestamp INTEGER NOT NULL, item_id TEXT NOT NULL, "
    "arrival INTEGER NOT NULL, event_id TEXT, PRIMARY KEY (user, timestamp, item_id, arrival)) WITHOUT ROWID",
    "CREATE UNIQUE INDEX event_ids ON events (user, event_id) WHERE event_id IS NOT NULL",
    "CREATE TABLE totals (users INTEGER NOT NULL)",
    "INSERT INTO totals VALUES (0)",
    "CREATE TABLE changes (id INTEGER PRIMARY KEY, owners BLOB)",
    "CREATE TABLE forgotten (number INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, "
    "at INTEGER NOT NULL)",
)

MIGRATIONS: Sequence[Sequence[str]] = (VERSION_1,)
"""Statements of each step, from an empty file on: the n-th makes version n. Released ones stay."""


def events_file(folder: Path, dataset: str) -> Path:
    """Returns the file of a data set's events: bundles that are made of it anew keep them."""
    slug = re.sub(r"[^a-z0-9]+", "-", dataset.casefold()).strip("-")[:40]
    digest = hashlib.blake2b(dataset.encode(), digest_size=4).hexdigest()  # two names may have one slug
    return folder / f"{slug or 'events'}-{digest}.sqlite"


class FileLock:
    """A lock that excludes other processes, and ends with the process that holds it.

    SQLite's own wait for another writer sleeps up to 100 ms at a time. It also lets one connection write
    while another moves the log into the file, which versions before 3.51.3 may do wrongly
    (https://sqlite.org/wal.html#walresetbug). Under this lock neither happens.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the lock for the block.

        Raises:
            StoreError: another process holds it for longer than ``BUSY_SECONDS``.
        """
        if not self._taken_within(BUSY_SECONDS, fcntl.LOCK_EX):
            raise StoreError("another process has been writing the events for too long")
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def share(self) -> None:
        """Holds the lock together with others who share it, until ``close``.

        Raises:
            StoreError: another process holds it alone.
        """
        if not self._taken_within(1.0, fcntl.LOCK_SH):  # another start may look whether it is alone
            raise StoreError("the file of events is being put aside")

    def take(self) -> bool:
        """Holds the lock alone until ``close``; returns False if another process holds or shares it."""
        return self._taken(fcntl.LOCK_EX)

    def _taken_within(self, seconds: float, kind: int) -> bool:
        pause = 0.0002  # shorter than the time between two transactions of a busy process
        for _ in range(int(seconds / pause)):
            if self._taken(kind):
                return True
            time.sleep(pause)
        return False

    def _taken(self, kind: int) -> bool:
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Gives the lock back."""
        os.close(self._descriptor)


def writer_lock(path: Path) -> FileLock:
    """Returns the lock under which processes write the file."""
    return FileLock(path.with_suffix(".writing"))


def use_lock(path: Path) -> FileLock:
    """Returns the lock that all processes share which have the file open."""
    return FileLock(path.with_suffix(".in-use"))


def connect(path: Path, *, reads_only: bool = False, full: bool = False) -> sqlite3.Connection:
    """Opens a connection, on which each statement is a transaction unless BEGIN and COMMIT say otherwise.

    Args:
        path: file of the events.
        reads_only: whether the connection must not write.
        full: whether each transaction is on the disk when it ends; else only a checkpoint waits for the disk.

    Raises:
        sqlite3.Error: it does not open.
    """
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=64
    )
    try:
        connection.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
        # The log is cut to this many bytes when it begins anew: a long backup may have let it grow.
        connection.execute("PRAGMA journal_size_limit = 16777216")
        # What is removed is overwritten: dropped events of a user who is forgotten later are in no free page.
        connection.execute("PRAGMA secure_delete = ON")
        if reads_only:
            connection.execute("PRAGMA query_only = ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def prepare(path: Path, *, check: bool = False, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Makes the file, or moves it to the present version of the schema, step by step.

    Args:
        path: file of the events, in a folder that exists.
        check: whether its pages are read too, for at most ``CHECK_SECONDS``, unless a process has it open.
        migrations: statements of the steps.

    Raises:
        ConfigurationError: the file is damaged, newer, not ours or cannot be written; the message says what
            to do.
    """
    # Checked first, since SQLite would open such a file for reading alone. os.access opens no descriptor.
    for part in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        if part.exists() and not os.access(part, os.R_OK | os.W_OK):
            raise ConfigurationError(
                f"MSR_DATA: {part} belongs to another user or is write-protected: give it to the user "
                "that runs the service"
            )
    with _refusals(path):
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite would let others read it
        lock = writer_lock(path)
        try:
            with closing(connect(path)) as connection:
                with lock.held():
                    _migrate(path, connection, migrations)
                if check and not _is_open_elsewhere(path):
                    _check_pages(connection)
        finally:
            lock.close()


def _is_open_elsewhere(path: Path) -> bool:
    lock = use_lock(path)
    try:
        return not lock.take()
    finally:
        lock.close()


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Turns errors of SQLite and the system into sentences that say what to do."""
    try:
        yield
    except StoreError as error:
        raise ConfigurationError(f"MSR_DATA: {path}: {error}") from None
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise ConfigurationError(
                f"MSR_DATA: {path} is damaged ({error}): {SET_ASIDE}, and copy a backup to its place or "
                "start without its events"
            ) from error
        raise _unusable(path, str(error)) from error
    except OSError as error:
        raise _unusable(path, error.strerror or type(error).__name__) from error


def _unusable(path: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"MSR_DATA: {path} cannot be used ({reason}): the folder must be writable, have room and be on a "
        "disk of this machine"
    )


def is_damage(error: BaseException) -> bool:
    """Returns whether an error of SQLite says that the file is damaged or none of SQLite's."""
    # The primary code is the low byte; those above it are details.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _migrate(path: Path, connection: sqlite3.Connection, migrations: Sequence[Sequence[str]]) -> None:
    ours = _number(connection, "application_id")
    version = _number(connection, "user_version")
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchall()[0][0]
    if ours != APPLICATION_ID and (tables or version or ours):
        raise ConfigurationError(f"MSR_DATA: {path} is not a store of events: {SET_ASIDE}")
    if version > len(migrations):
        raise ConfigurationError(
            f"MSR_DATA: {path} was written by a newer version of the service (schema {version}, this one "
            f"knows {len(migrations)}): start that version, or {SET_ASIDE}"
        )
    if connection.execute("PRAGMA journal_mode = WAL").fetchall()[0][0] != "wal":
        raise _unusable(path, "the file system has no shared memory")
    for step in migrations[version:]:
        version += 1
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in step:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    # What a later read would fail on, such as a table that is missing, fails here.
    connection.execute("SELECT users FROM totals").fetchall()
    connection.execute("SELECT max(id) FROM changes").fetchall()


def _check_pages(connection: sqlite3.Connection) -> None:
    end = time.monotonic() + CHECK_SECONDS
    late: Callable[[], int] = lambda: int(time.monotonic() > end)  # noqa: E731
    connection.set_progress_handler(late, 10_000)
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return
        raise
    finally:
        connection.set_progress_handler(None, 0)
    if found != [("ok",)]:
        damage = sqlite3.DatabaseError(str(found[0][0]).replace("\n", " ")[:200])
        damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damage


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchall()[0][0])
