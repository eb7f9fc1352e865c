"""Writes and reads the raw records of a replay: a header, then a JSON line for each user and strategy.

Lines are appended as answers come and are never edited; tables are made from them later. A run that was
stopped is continued: users with a whole line are skipped, and a line that was half written is removed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.errors import BenchmarkError

SCHEMA = 1
"""Version of the format; a file of another version is refused."""
HEADER = "header"
"""``kind`` of the first line."""
ANSWER = "answer"
"""``kind`` of all other lines."""

Record = dict[str, Any]
Key = tuple[int, str]
"""User position and strategy, of which a file holds one answer."""


@dataclass(frozen=True)
class RecordedRun:
    """A finished or stopped replay as read from its file.

    Attributes:
        header: first line, with options, protocol, bundle and machine.
        records: other lines, one per answer, in the order in which the answers came.
    """

    header: Record
    records: tuple[Record, ...]


def read_records(path: Path) -> RecordedRun:
    """Reads the records of a run; a half-written last line is left out.

    Raises:
        BenchmarkError: the file cannot be read, is no file of records, or is damaged.
    """
    lines = _complete_lines(path)
    header = _header(path, lines)
    return RecordedRun(
        header, tuple(_answer(path, number, line) for number, line in enumerate(lines[1:], start=2))
    )


class RecordFile:
    """The file of a run under way, open for appending.

    Attributes:
        path: path of the file.
        finished: pairs of user and strategy that have a record.
        failures: number of records without a usable answer.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        """Creates the file, or opens it to continue a run.

        Args:
            path: path of the file.
            header: header of this run; its ``options`` must equal those in the file.

        Raises:
            BenchmarkError: the file is no file of records, is damaged or was made with other options.
        """
        self.path = path
        self.finished: set[Key] = set()
        self.failures = 0
        try:
            if path.exists() and path.stat().st_size:
                self._resume(header)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("a", encoding="utf-8")
        except OSError as error:
            raise BenchmarkError(f"cannot write {path}: {error.strerror}") from error
        # The file is new, or its header was half written and removed.
        if not path.stat().st_size:
            self._write({"kind": HEADER, "schema": SCHEMA, **header})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds one answer, which is not lost if the process is killed after this returns.

        Raises:
            BenchmarkError: the file cannot be written, because the disk is full for one.
        """
        self._write({"kind": ANSWER, **record})
        self.finished.add((record["user"], record["strategy"]))
        self.failures += record.get("error") is not None

    def _write(self, record: Mapping[str, Any]) -> None:
        try:
            # NaN is not JSON: other programs would not read the file.
            self._stream.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
            # Flushed to the operating system, not to the disk: a power cut may lose lines.
            self._stream.flush()
        except OSError as error:
            raise BenchmarkError(
                f"cannot write {self.path}: {error.strerror}; make room and repeat the command"
            ) from error

    def _resume(self, header: Mapping[str, Any]) -> None:
        if self._drop_unfinished_header():
            return
        run = read_records(self.path)
        _check_same_options(self.path, run.header.get("options", {}), header["options"])
        self.finished = {(record["user"], record["strategy"]) for record in run.records}
        self.failures = sum(record.get("error") is not None for record in run.records)
        contents = self.path.read_bytes()
        with self.path.open("r+b") as stream:
            # A line without a newline was being written when the run was killed.
            stream.truncate(contents.rfind(b"\n") + 1)

    def _drop_unfinished_header(self) -> bool:
        """Empties a file that holds only the beginning of a header; returns whether it did."""
        contents = self.path.read_bytes()
        ours = json.dumps({"kind": HEADER}).encode()[:-1]
        # A file that begins otherwise may be the user's data. The file may hold more or less than ``ours``.
        unfinished = b"\n" not in contents and (contents.startswith(ours) or ours.startswith(contents))
        if unfinished:
            self.path.write_bytes(b"")
        return unfinished


def _complete_lines(path: Path) -> list[bytes]:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise BenchmarkError(f"cannot read {path}: {error.strerror}") from error
    return lines[:-1]  # what follows the last newline is empty or half written


def _header(path: Path, lines: list[bytes]) -> Record:
    header = _json(lines[0]) if lines else None
    if header is None or header.get("kind") != HEADER:
        raise BenchmarkError(
            f"{path} does not begin with the header of a replay: it is not a file of records"
        )
    if header.get("schema") != SCHEMA:
        raise BenchmarkError(
            f"{path} has schema {header.get('schema')!r} and this code reads {SCHEMA}: "
            "replay again into another file"
        )
    return header


def _answer(path: Path, number: int, line: bytes) -> Record:
    record = _json(line)
    shaped = record is not None and record.get("kind") == ANSWER
    if (
        record is None
        or not shaped
        or not isinstance(record.get("user"), int)
        or not isinstance(record.get("strategy"), str)
    ):
        raise BenchmarkError(f"{path} line {number} is not a record: delete the line and repeat the replay")
    return record


def _json(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _check_same_options(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    # Options that change answers must be the same; the address and the concurrency may differ.
    other = [
        f"{name} {before.get(name)!r} (now {now.get(name)!r})"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if other:
        raise BenchmarkError(
            f"{path} was made with {', '.join(other)}: repeat the replay with those, or choose another --out"
        )
