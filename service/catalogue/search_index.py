"""Makes the index behind the search: an SQLite database in a file that processes share, or in memory.

The table ``names`` holds one text per item row: the name in search form, then the starts of its words, each
after two marks. The full-text table ``terms`` (FTS5) finds rows by the trigrams of that text, three
characters each. So a short word is a trigram too, a start with one or two marks before it, and all words of a
query are one look-up. Where SQLite lacks FTS5, ``names`` alone is scanned.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import tempfile
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from models.contracts import sha256_of
from service.catalogue.search_words import SHORT, search_form, word_starts

MARK = "\1"
"""Stands twice before each start of a word; the search form has no control characters, so it is no text."""
FORMAT = 1
"""Version of the tables and of the search form; files of other versions are not read."""
KEPT_FILES = 3
"""Files of the folder that stay, the newest ones: a catalogue that comes back finds its index."""
MAX_TERMS = 64
"""Trigrams of one query that are looked up; those beyond are covered by the comparison with the name."""
SLOW_ITEMS = 50_000
"""Items from which on the building, some seconds by then, is announced in the log."""

# Bytes of new terms that are gathered in memory before they are written: most catalogues are one run then.
_GATHERED_BYTES = 64 << 20
_TERMS = (
    "CREATE VIRTUAL TABLE terms USING fts5("
    "text, content='', columnsize=0, detail=none, tokenize='trigram case_sensitive 1')"
)

log = logging.getLogger(__name__)


def has_full_text_search() -> bool:
    """Returns whether this SQLite has FTS5 with the trigram tokenizer (3.34 or newer)."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(_TERMS)
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


def in_memory(names: Iterable[str]) -> sqlite3.Connection:
    """Builds the index in memory, for one connection; about 200 bytes an item."""
    connection = _connect(":memory:")
    _build(connection, names)
    return connection


def in_file(folder: Path, version: str, names: Sequence[str], connections: int) -> list[sqlite3.Connection]:
    """Opens the file of a catalogue's index read-only, after building it if it is not there or damaged.

    Processes that open the same catalogue at once build it once: the others wait for the lock.

    Args:
        folder: folder of the files, which this user may write.
        version: version of the catalogue, a part of the file's name.
        names: name of every item, in the order of rows.
        connections: connections to open, at least 1.

    Raises:
        OSError: the folder cannot be written or locked.
        sqlite3.Error: the file cannot be written, for example because the disk is full.
    """
    folder = folder.resolve()
    # The search form depends on Python's Unicode tables: two Pythons do not share a file.
    prefix = f"{version}-{FORMAT}-{unicodedata.unidata_version}"
    with _locked(folder):
        for path in folder.glob(f"{prefix}-*.sqlite"):
            if path.stem == f"{prefix}-{sha256_of(path)}":
                opened = _open(path, connections)
                if is_full_text(opened[0]) or not has_full_text_search():
                    os.utime(path)  # the newest files stay
                    return opened
                close_all(opened)
            else:
                log.warning("the search index %s is damaged and is built again", path)
            path.unlink()
        path = _write(folder, prefix, names)
        _remove_old(folder, path)
        return _open(path, connections)


def full_text_query(words: Sequence[str]) -> str:
    """Returns the FTS5 expression for all words: quoted trigrams that a matching name must have.

    Of a longer word every third trigram and the last one are asked for. That they stand in this order only
    the name itself can tell (``needles``).
    """
    terms: dict[str, None] = {}
    for word in words:
        if len(word) <= SHORT:
            terms[_marked(word)] = None
        else:
            last = len(word) - 3
            terms |= {word[at : at + 3]: None for at in (*range(0, last, 3), last)}
    # Text of clients is never syntax: a string of FTS5 ends with a quote alone, which is written twice.
    return " AND ".join('"' + term.replace('"', '""') + '"' for term in list(terms)[:MAX_TERMS])


def needles(words: Sequence[str]) -> list[str]:
    """Returns what a row's text must contain so that all words match its name."""
    return [_marked(word) if len(word) <= SHORT else word for word in words]


def _marked(start: str) -> str:
    return MARK * (3 - len(start)) + start


def _indexed_text(name: str) -> str:
    form = search_form(name)
    return f"{form} {''.join(MARK * 2 + start for start in sorted(word_starts(form)))}"


def _connect(database: str) -> sqlite3.Connection:
    # Used by the threads of a pool, by one at a time.
    return sqlite3.connect(database, uri=True, check_same_thread=False, isolation_level=None)


def _open(path: Path, connections: int) -> list[sqlite3.Connection]:
    # immutable: no locks and no look at the file's time for each query; a file is replaced, never written to.
    return [_connect(f"{path.as_uri()}?mode=ro&immutable=1") for _ in range(connections)]


def close_all(connections: Iterable[sqlite3.Connection]) -> None:
    """Closes connections."""
    for connection in connections:
        connection.close()


def is_full_text(connection: sqlite3.Connection) -> bool:
    """Returns whether the index has the full-text table and this SQLite can read it."""
    found = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'terms'").fetchone()[0]
    return bool(found) and has_full_text_search()


def _build(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    connection.execute("BEGIN")
    connection.execute("CREATE TABLE names (row INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    connection.executemany("INSERT INTO names VALUES (?, ?)", enumerate(map(_indexed_text, names)))
    if has_full_text_search():
        connection.execute(_TERMS)
        connection.execute("INSERT INTO terms (terms, rank) VALUES ('hashsize', ?)", (_GATHERED_BYTES,))
        connection.execute("INSERT INTO terms (rowid, text) SELECT row, text FROM names")
        connection.execute("INSERT INTO terms (terms) VALUES ('optimize')")  # one run: one look-up a term
    connection.execute("COMMIT")


def _write(folder: Path, prefix: str, names: Sequence[str]) -> Path:
    """Builds the file under a temporary name, renames it to one that has its SHA-256, and returns that."""
    if len(names) >= SLOW_ITEMS:
        log.info("building the search index of %d items, once for this catalogue", len(names))
    begun = time.monotonic()
    handle, name = tempfile.mkstemp(dir=folder, suffix=".tmp")
    temporary = Path(name)
    try:
        connection = _connect(temporary.as_uri())
        try:
            connection.execute("PRAGMA journal_mode = OFF")  # half a file is thrown away, not repaired
            connection.execute("PRAGMA synchronous = OFF")
            _build(connection, names)
        finally:
            connection.close()
        os.fsync(handle)  # before the rename: a power loss must not leave the name with other contents
        path = folder / f"{prefix}-{sha256_of(temporary)}.sqlite"
        temporary.replace(path)
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)
    if len(names) >= SLOW_ITEMS:
        log.info("the search index took %.1f s", time.monotonic() - begun)
    return path


def _remove_old(folder: Path, made: Path) -> None:
    """Removes all files but the newest, and what a killed process left; called with the lock held."""
    others = [path for path in folder.glob("*.sqlite") if path != made]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in (*others[KEPT_FILES - 1 :], *folder.glob("*.tmp")):
        path.unlink()  # a process that reads it keeps it open


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the folder's lock until the block ends; the system releases that of a process that dies.

    Raises:
        OSError: the file system has no locks, or the system is Windows.
    """
    try:
        import fcntl
    except ImportError as error:
        raise OSError("this system has no flock") from error
    with (folder / "lock").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
