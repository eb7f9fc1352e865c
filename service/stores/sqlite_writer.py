"""Writes the events' file from one thread: batches that arrive together become one transaction."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from service.outages import Outage
from service.stores.base import StoreError, owner_of
from service.stores.events import StoreFullError
from service.stores.sqlite_file import BUSY_SECONDS, SET_ASIDE, connect, is_damage, writer_lock

log = logging.getLogger(__name__)

T = TypeVar("T")

GROUP_EVENTS = 20_000
"""Events of one transaction at most, so that a waiting process gets its turn."""

WAITING_EVENTS = 200_000
"""Events that may wait for the writer; a batch that does not fit is refused."""

MOST_CHANGES, KEPT_CHANGES = 256, 128
"""Users that one record of changes names (one with more says "all"), and records that are kept."""

NO_ROOM = 1_048_576
"""Bytes of free disk below which an error of input or output means that the disk is full."""


@dataclass(frozen=True, slots=True)
class Written(Generic[T]):
    """What a job did.

    Attributes:
        result: value for its caller.
        changed: users whose lists are no longer what they were.
        erased: whether the log must lose what it says of earlier times, too.
    """

    result: T
    changed: Sequence[str] = ()
    erased: bool = False


Job = Callable[[sqlite3.Connection], Written[T]]


@dataclass(slots=True)
class _Waiting:
    """A job that waits for the writer, or has its outcome: a ``Written``, or an error."""

    job: Job[Any]
    events: int
    future: asyncio.Future[Any]
    outcome: Any = None


class SqliteWriter:
    """Runs jobs one after the other, each of them completely or not at all.

    The standard library's ``sqlite3`` in one thread, and not ``aiosqlite``: that hands each statement to its
    thread alone (30 µs there and back), and a batch is thousands whose results decide on the next one.

    Args:
        path: file of the events, prepared.
        fsync_seconds: seconds between two writes of the log to the disk; 0 for one with each transaction.
    """

    def __init__(self, path: Path, fsync_seconds: float) -> None:
        self._path = path
        self._log_file = Path(f"{path}-wal")
        self._connection = connect(path, full=fsync_seconds == 0)
        self._lock = writer_lock(path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="events-writer")
        self._waiting: deque[_Waiting] = deque()
        self._waiting_events = 0
        self._draining: asyncio.Task[None] | None = None
        self._unsynced = self._folder_unsynced = True
        self._outage = Outage("the store of events", log)
        self.trouble: str | None = None  # why the last transaction failed, in a clause
        self._stop = threading.Event()
        self._syncing: threading.Thread | None = None
        if fsync_seconds:
            self._syncing = threading.Thread(target=self._sync, args=(fsync_seconds,), daemon=True)
            self._syncing.start()

    async def run(self, job: Job[T], events: int = 1) -> T:
        """Runs a job in the transaction of a group of them; it is durable when this returns.

        Args:
            job: function that writes through the connection it is given.
            events: events that it writes, which bound the groups and the queue.

        Raises:
            StoreFullError: the disk is full, or the job says that the store is.
            StoreError: it could not be written, or too many events wait.
        """
        if self._waiting_events + events > WAITING_EVENTS:
            raise StoreError("too many events wait to be written")
        waiting = _Waiting(job, events, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._waiting_events += events
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        result: T = await waiting.future
        return result

    async def _drain(self) -> None:
        """Commits groups until none waits. What arrives while one is committed makes up the next."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                group: list[_Waiting] = []
                events = 0
                while self._waiting and (not group or events + self._waiting[0].events <= GROUP_EVENTS):
                    group.append(self._waiting.popleft())
                    events += group[-1].events
                await loop.run_in_executor(self._thread, self._commit_group, group)
                self._waiting_events -= events
                for waiting in group:
                    if waiting.future.done():  # its caller has left
                        continue
                    if isinstance(waiting.outcome, Written):
                        waiting.future.set_result(waiting.outcome.result)
                    else:
                        waiting.future.set_exception(waiting.outcome)
        finally:
            self._draining = None

    def _commit_group(self, group: Sequence[_Waiting]) -> None:
        """Commits a group, or each job by itself if one of them breaks the transaction. Never raises."""
        try:
            self._commit(group)
        except Exception as error:
            if len(group) > 1:
                for waiting in group:
                    self._commit_group([waiting])
                return
            group[0].outcome = failure = self._failure(error)
            self.trouble = str(failure)
        else:
            self.trouble = None
            self._outage.works()

    def _commit(self, group: Sequence[_Waiting]) -> None:
        connection = self._connection
        with self._lock.held():
            connection.execute("BEGIN IMMEDIATE")
            try:
                changed: set[str] = set()
                for waiting in group:
                    connection.execute("SAVEPOINT job")
                    try:
                        waiting.outcome = waiting.job(connection)
                        changed.update(waiting.outcome.changed)
                    except StoreError as error:  # the job's own decision, which concerns no other
                        waiting.outcome = error
                        connection.execute("ROLLBACK TO job")
                    connection.execute("RELEASE job")
                if changed:
                    _record(connection, changed)
                self._unsynced = True
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite has rolled back by itself where the disk is full
                    connection.execute("ROLLBACK")
                raise
            if any(isinstance(each.outcome, Written) and each.outcome.erased for each in group):
                self._empty_log()

    def _empty_log(self) -> None:
        """Moves the log into the file and cuts it, unless a reader, such as a backup, still needs it."""
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA busy_timeout = 200")  # milliseconds
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")

    def _failure(self, error: Exception) -> StoreError:
        if isinstance(error, StoreError):  # the lock of another process
            self._outage.failed("events cannot be written: %s", error)
            return error
        if self._is_full(error):
            self._outage.failed("the disk of the events is full: none are stored until it has room")
            return StoreFullError("the disk of the events is full")
        if is_damage(error):
            self._outage.failed(
                "the file of events is damaged (%s): stop the service and %s", error, SET_ASIDE
            )
        else:
            self._outage.failed("events cannot be written (%s: %s)", type(error).__name__, error, error=error)
        return StoreError(f"events cannot be written: {type(error).__name__}")

    def _is_full(self, error: Exception) -> bool:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return True
        # SQLite tells a disk that has no room for its shared memory as an error of input and output.
        return code == sqlite3.SQLITE_IOERR and free_bytes(self._path.parent) < NO_ROOM

    def _sync(self, seconds: float) -> None:
        """Writes the log to the disk at intervals, in a thread of its own."""
        while not self._stop.wait(seconds):
            self.sync()

    def sync(self) -> None:
        """Writes to the disk what was committed since the last time; what it cannot write is logged."""
        if not self._unsynced:
            return
        self._unsynced = False  # before, so that a commit meanwhile is not missed
        try:
            # Closing it drops no lock: those are on the main file and the shared memory.
            descriptor = os.open(self._log_file, os.O_RDWR)
            try:
                getattr(os, "fdatasync", os.fsync)(descriptor)
            finally:
                os.close(descriptor)
            if self._folder_unsynced:  # which holds the name of the new file
                folder = os.open(self._path.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
                self._folder_unsynced = False
        except FileNotFoundError:  # the store was closed meanwhile
            pass
        except OSError as error:
            self._unsynced = True
            self._outage.failed("events cannot be written to the disk (%s)", error.strerror)

    async def close(self) -> None:
        """Waits for what is being written and closes the file."""
        while self._draining is not None:
            await asyncio.wait([self._draining])
        self._stop.set()
        if self._syncing is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._syncing.join)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=True)

    def _close(self) -> None:
        self.sync()
        self._connection.close()
        self._lock.close()


def _record(connection: sqlite3.Connection, changed: set[str]) -> None:
    """Tells the other processes whose lists have changed."""
    owners = b"".join(map(digest_of, changed)) if len(changed) <= MOST_CHANGES else None
    last = connection.execute("INSERT INTO changes (owners) VALUES (?)", (owners,)).lastrowid or 0
    connection.execute("DELETE FROM changes WHERE id <= ?", (last - KEPT_CHANGES,))


def digest_of(user_id: str) -> bytes:
    """Returns the 16 bytes by which a record of changes names a user."""
    return bytes.fromhex(owner_of(user_id))


def free_bytes(folder: Path) -> int:
    """Returns the bytes that this user may still write to the folder's disk."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
