"""Finds items by words of their names, in catalogue order; blocking, for a thread beside the event loop."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue

from service.catalogue.bundle import Catalogue
from service.catalogue.search_index import (
    close_all,
    full_text_query,
    has_full_text_search,
    in_file,
    in_memory,
    is_full_text,
    needles,
)
from service.errors import UnavailableError

THREADS = 2
"""Searches that run at once in one process: so many connections are open, one if the index is in memory."""
QUEUE = 64
"""Searches that may wait for a thread before the next one is refused."""
MAX_SECONDS = 2.0
"""Seconds after which one search is stopped, so that the threads are there for the others."""

# Steps of SQLite's virtual machine between two looks at the time: about a millisecond.
_STEPS = 20_000

log = logging.getLogger(__name__)


class ItemSearch:
    """Searches the names of one catalogue; safe to call from several threads at once.

    Its connections are closed when the last reference to it goes: a generation that was swapped out answers
    the searches that began with it.

    Args:
        catalogue: catalogue whose names are searched.
        folder: folder for the index's file, shared by processes; None to build it in memory.
    """

    def __init__(self, catalogue: Catalogue, folder: Path | None = None) -> None:
        self._catalogue = catalogue
        self._rebuilding = threading.Lock()
        if not has_full_text_search():
            log.warning(
                "this Python's SQLite %s lacks FTS5 with trigrams (3.34 or newer): searches read every name",
                sqlite3.sqlite_version,
            )
        self._index = self._opened(folder)

    def find(self, words: Sequence[str], start: int, limit: int) -> list[int]:
        """Returns the first item rows from ``start`` on whose names match all words, ascending.

        Args:
            words: words in search form, as ``query_words`` returns them; at least one.
            start: first row to return, from 0.
            limit: number of rows at most.

        Raises:
            UnavailableError: the search takes longer than ``MAX_SECONDS``, or the index cannot be read.
        """
        index = self._index
        try:
            return index.find(words, start, limit)
        except sqlite3.Error as error:
            try:
                return self._rebuilt(index, error).find(words, start, limit)
            except sqlite3.Error:
                raise UnavailableError("the search does not work at the moment", retry_after=10) from None

    def _opened(self, folder: Path | None) -> _Index:
        if folder is not None:
            try:
                return _Index(in_file(folder, self._catalogue.version, self._names(), THREADS))
            except (OSError, sqlite3.Error) as error:
                log.warning("the search index is built in memory: %s cannot keep it (%s)", folder, error)
        return _Index([in_memory(self._names())])

    def _names(self) -> list[str]:
        return [item.name for item in self._catalogue.items]

    def _rebuilt(self, broken: _Index, error: Exception) -> _Index:
        """Returns an index in memory in the place of one that cannot be read, the same for all threads."""
        with self._rebuilding:
            if self._index is broken:
                # The file stays: the next start checks it, and builds it again if it is damaged.
                log.error("the search index cannot be read and is built again in memory: %s", error)
                self._index = _Index([in_memory(self._names())])
        return self._index


class _Index:
    """Lends each search a connection to one database.

    Args:
        connections: connections to the same contents, at least 1; closed when the index is no longer used.
    """

    def __init__(self, connections: Sequence[sqlite3.Connection]) -> None:
        self._full_text = is_full_text(connections[0])
        self._idle: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        for connection in connections:
            self._idle.put(connection)
        weakref.finalize(self, close_all, tuple(connections))

    def find(self, words: Sequence[str], start: int, limit: int) -> list[int]:
        end = time.monotonic() + MAX_SECONDS
        try:
            connection = self._idle.get(timeout=MAX_SECONDS)
        except Empty:
            raise UnavailableError("other searches take too long", retry_after=1) from None
        try:
            # Called between steps of the virtual machine; not inside FTS5, where reading all its lists of a
            # million items takes a fraction of a second.
            connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
            statement, parameters = self._query(words)
            found = connection.execute(statement, (*parameters, start, limit)).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            raise UnavailableError(
                f"the search was stopped after {MAX_SECONDS:g} s: ask for other or for longer words"
            ) from None
        finally:
            connection.set_progress_handler(None, 0)
            self._idle.put(connection)
        return [row for (row,) in found]

    def _query(self, words: Sequence[str]) -> tuple[str, list[str]]:
        """Returns the statement, which still needs the first row and the limit, and its other parameters."""
        # Only the number of places depends on the words.
        if not self._full_text:
            parts = needles(words)
            matching = " AND ".join(["instr(text, ?)"] * len(parts))
            statement = f"SELECT row FROM names WHERE {matching} AND row >= ? ORDER BY row LIMIT ?"  # noqa: S608
            return statement, parts
        # A trigram is found exactly; the trigrams of a longer word may also stand apart.
        parts = [word for word in words if len(word) > 3]
        compared = "".join([" AND instr(names.text, ?)"] * len(parts))
        joined = " CROSS JOIN names ON names.row = terms.rowid" if parts else ""
        statement = (
            f"SELECT terms.rowid FROM terms{joined} WHERE terms MATCH ?{compared} "  # noqa: S608
            "AND terms.rowid >= ? ORDER BY terms.rowid LIMIT ?"
        )
        return statement, [full_text_query(words), *parts]
