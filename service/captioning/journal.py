"""Writes a journal of calls under way, which shows what a killed run may have paid for without a caption."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO


class Journal:
    """Records the beginning and the end of every call by item id; each method returns when it is on the disk.

    The file has a line ``+<item id>`` for a call that begins and ``-<item id>`` for one that ended. It is
    removed when the run closes it with no call under way.

    Args:
        path: file of the journal.

    Attributes:
        unfinished: ids of items whose calls an earlier run began and did not end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.unfinished = _unfinished(path)
        self._open: set[str] = set()
        self._file: TextIO | None = None

    def begin(self, item_id: str) -> None:
        """Records that a call is about to be made."""
        self._open.add(item_id)
        self._write(f"+{item_id}")

    def end(self, item_id: str) -> None:
        """Records that a call has ended and that its caption, if it had one, is on the disk."""
        self._open.discard(item_id)
        self._write(f"-{item_id}")

    def close(self) -> None:
        """Closes the file, and removes it if no call is under way."""
        if self._file:
            self._file.close()
        if not self._open:
            self._path.unlink(missing_ok=True)

    def _write(self, line: str) -> None:
        if self._file is None:
            # Emptied only when the first call begins: a run that makes none keeps the last run's journal.
            self._file = self._path.open("w", encoding="utf-8")
        self._file.write(f"{line}\n")
        self._file.flush()
        os.fdatasync(self._file.fileno())


def _unfinished(path: Path) -> tuple[str, ...]:
    try:
        # A crash may have torn the last line, also within a character.
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ()
    begun: dict[str, None] = {}
    for line in lines:
        if line.startswith("+"):
            begun[line[1:]] = None
        elif line.startswith("-"):
            begun.pop(line[1:], None)
    return tuple(begun)
