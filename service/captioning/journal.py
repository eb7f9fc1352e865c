"""Which calls were under way: what a run that died may have paid for without getting it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO


class Journal:
    """Begun and ended calls by item id, on the disk at once; gone when nothing is open.

    Attributes:
        lost: item ids whose calls an earlier run began and never ended.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lost = _open_calls(path)
        self._open: set[str] = set()
        self._file: TextIO | None = None

    def begin(self, item_id: str) -> None:
        """A call is about to be made."""
        self._open.add(item_id)
        self._write(f"+{item_id}")

    def end(self, item_id: str) -> None:
        """It has ended, and what came of it is kept."""
        self._open.discard(item_id)
        self._write(f"-{item_id}")

    def close(self) -> None:
        """Leave nothing behind if nothing is under way."""
        if self._file:
            self._file.close()
        if not self._open:
            self._path.unlink(missing_ok=True)

    def _write(self, line: str) -> None:
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8")
        self._file.write(f"{line}\n")
        self._file.flush()
        os.fdatasync(self._file.fileno())


def _open_calls(path: Path) -> tuple[str, ...]:
    try:
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
