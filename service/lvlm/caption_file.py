"""One captioner's file in a bundle: append-only, one line an image, safe against a kill at any moment."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from models.contracts import BundleError, Caption


class CaptionFile:
    """Open for appending by one process at a time.

    A last line that a killed run left unfinished is removed on opening; a line that was appended is on the
    disk.

    Args:
        path: of the file.
        patience: seconds to wait for another process that writes it.
        waiting: called once when there is one.

    Attributes:
        latest: item id -> its last caption.

    Raises:
        BundleError: another process writes this file, or a complete line is not a caption.
    """

    def __init__(self, path: Path, patience: float = 0.0, waiting: Callable[[], None] = lambda: None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._lock(patience, waiting)
            self.latest = self._repair()
        except BaseException:
            os.close(self._descriptor)
            raise

    @classmethod
    def read(cls, path: Path) -> dict[str, Caption]:
        """The last caption of every item, without touching the file; none if there is no file.

        Raises:
            BundleError: a complete line is not a caption.
        """
        return _read(path)[0] if path.exists() else {}

    def append(self, caption: Caption) -> None:
        """Write one line, whole or not at all, and wait until the disk has it."""
        line = json.dumps(asdict(caption), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        end = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, line)
            if written != len(line):
                raise OSError(f"only {written} of {len(line)} bytes fit into {self.path}")
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, end)
            raise
        self.latest[caption.item_id] = caption

    def __enter__(self) -> CaptionFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)  # gives the lock back too

    def _lock(self, patience: float, waiting: Callable[[], None]) -> None:
        end, told = time.monotonic() + patience, False
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() >= end:
                    raise BundleError(f"another run writes {self.path}: wait for it to end") from error
            else:
                return
            if not told:
                waiting()
                told = True
            time.sleep(0.1)

    def _repair(self) -> dict[str, Caption]:
        latest, complete = _read(self.path)
        os.ftruncate(self._descriptor, complete)
        return latest


def _read(path: Path) -> tuple[dict[str, Caption], int]:
    """The last caption of every item, and the bytes of the complete lines."""
    latest: dict[str, Caption] = {}
    complete = 0
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            break
        try:
            caption = Caption(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise BundleError(f"{path} line {number} is not a caption: delete that line") from error
        latest[caption.item_id] = caption
        complete += len(line)
    return latest, complete
