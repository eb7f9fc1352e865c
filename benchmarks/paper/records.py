"""Writes and reads the raw records of a replay: a header, then a JSON line for each user and strategy.

Lines are appended as answers come and are never edited; tables are made from them later. A run that was
stopped is continued: users with a whole line are skipped, and a line that was half written is removed. One
process at a time writes a file; a run that gets no answer leaves none.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from benchmarks.errors import BenchmarkError
from models.contracts.one_writer import BusyError, open_locked
from models.data.report import ReadingReport
from models.errors import DataError
from models.evaluation import candidates_in_words, cohort_in_words
from service.strategies import STRATEGIES

SCHEMA = 1
"""Version of the format; a file of another version is refused."""
HEADER = "header"
"""``kind`` of the first line."""
ANSWER = "answer"
"""``kind`` of all other lines."""
LINE_LIMIT = 16 * 2**20
"""Bytes of a line that is read; a longer one is no record."""

Record = dict[str, Any]
Key = tuple[int, str]
"""User position and strategy, of which a file holds one answer."""


@dataclass(frozen=True)
class RecordedRun:
    """A finished or stopped replay as read from its file.

    Attributes:
        header: first line, with options, protocol, bundle and machine.
        records: other lines, one per answer, in the order in which the answers came.
        size: number of bytes up to the end of the last whole line.
    """

    header: Record
    records: tuple[Record, ...]
    size: int


def read_records(path: Path) -> RecordedRun:
    """Reads the records of a run; a half-written last line is left out.

    A line that is no record is left out too, with a warning that names it; its user counts as not asked.

    Raises:
        BenchmarkError: the file cannot be read, is no file of records, or too many lines are no records.
    """
    try:
        with path.open("rb") as stream:
            return _read(path, stream)
    except OSError as error:
        raise BenchmarkError(f"cannot read {path}: {error.strerror}") from error


class RecordFile:
    """The file of a run under way, open for appending.

    Attributes:
        path: path of the file.
        finished: pairs of user and strategy that have a record.
        failures: number of records without a usable answer.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        """Opens the file for this process alone, and reads the run that it continues.

        Args:
            path: path of the file.
            header: header of this run; its ``options`` must equal those in the file.

        Raises:
            BenchmarkError: another process writes the file, or it is no file of records, is damaged or was
                made with other options.
        """
        self.path = path
        self.finished: set[Key] = set()
        self.failures = 0
        self._header: Record = {"kind": HEADER, "schema": SCHEMA, **header}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = open_locked(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        except BusyError as error:
            raise BenchmarkError(str(error)) from error
        except OSError as error:
            raise BenchmarkError(f"cannot write {path}: {error.strerror}") from error
        try:
            self._resume(header["options"])
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Without an answer there is nothing that another run with other options could mix with.
        if not os.fstat(self._descriptor).st_size:
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)  # gives the lock back too

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds one answer, which is not lost if the process is killed after this returns.

        The first answer of a file brings the header with it.

        Raises:
            BenchmarkError: the file cannot be written, because the disk is full for one; it is as before.
        """
        end = os.fstat(self._descriptor).st_size
        lines = [{"kind": ANSWER, **record}] if end else [self._header, {"kind": ANSWER, **record}]
        # NaN is not JSON: other programs would not read the file. A lone surrogate becomes its JSON escape.
        texts = [json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines]
        content = "".join(texts).encode("utf-8", "backslashreplace")
        try:
            # To the operating system, not to the disk: a power cut may lose lines.
            if os.write(self._descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            os.ftruncate(self._descriptor, end)
            raise BenchmarkError(
                f"cannot write {self.path}: {error.strerror}; make room and repeat the command"
            ) from error
        self.finished.add((record["user"], record["strategy"]))
        self.failures += record.get("error") is not None

    def _resume(self, options: Mapping[str, Any]) -> None:
        """Reads what is there, through the descriptor that holds the lock."""
        with open(self._descriptor, "rb", closefd=False) as stream:
            start = stream.read(LINE_LIMIT)
            ours = json.dumps({"kind": HEADER}).encode()[:-1]
            # A file that begins otherwise may be the user's. It may hold more or less than ``ours``.
            begun = b"\n" not in start and (start.startswith(ours) or ours.startswith(start))
            stream.seek(0)
            run = None if begun else _read(self.path, stream)
        if run is None or not run.records:
            os.ftruncate(self._descriptor, 0)  # the header was half written, or no answer followed it
            return
        _check_same_options(self.path, run.header.get("options", {}), options)
        self.finished = {(record["user"], record["strategy"]) for record in run.records}
        self.failures = sum(record.get("error") is not None for record in run.records)
        os.ftruncate(self._descriptor, run.size)  # a line without a newline was cut off by a kill


def _read(path: Path, stream: BinaryIO) -> RecordedRun:
    """Reads line by line: a file of another kind may be huge."""
    header = _header(path, _line(stream) or b"")
    size, number, report = stream.tell(), 1, ReadingReport()
    records: dict[Key, Record] = {}
    while (line := _line(stream)) is not None:
        size, number = stream.tell(), number + 1
        report.read("records")
        place = f"{path.name}, line {number}"
        if (record := _answer(line)) is None:
            report.leave_out("records", "a line is no record", place)
        elif records.setdefault((record["user"], record["strategy"]), record) is not record:
            report.change("records", "a user was asked twice, and the first answer counts", place)
    try:
        report.check()
    except DataError:
        damaged = number - 1 - len(records)
        raise BenchmarkError(
            f"{path}: {damaged:,} of {number - 1:,} lines are no records: replay again into another file"
        ) from None
    return RecordedRun(header, tuple(records.values()), size)


def _line(stream: BinaryIO) -> bytes | None:
    """Reads one line without its newline; None at the end, or for a half-written last line.

    A line beyond the limit is skipped and comes back empty.
    """
    line = stream.readline(LINE_LIMIT)
    if line.endswith(b"\n"):
        return line[:-1]
    while line:
        line = stream.readline(LINE_LIMIT)
        if line.endswith(b"\n"):
            return b""
    return None


def _header(path: Path, line: bytes) -> Record:
    header = _json(line)
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


def _answer(line: bytes) -> Record | None:
    """Reads a record with all that scoring takes for granted; None for any other line."""
    record = _json(line)
    if record is None or record.get("kind") != ANSWER:
        return None
    items = record.get("items", [])
    shaped = (
        type(record.get("user")) is int
        and record.get("strategy") in STRATEGIES
        and isinstance(items, list)
        and all(isinstance(item, dict) for item in items)
        and all(isinstance(record.get(part), dict | None) for part in ("lvlm", "backbone"))
    )
    return record if shaped else None


def _json(line: bytes) -> Record | None:
    try:
        # Some editors begin a file with a byte order mark.
        record = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _in_words(name: str, value: Any) -> str:
    """Writes the value of an option as a sentence has it."""
    if not isinstance(value, dict):
        return "not given" if value is None else str(value)
    if name == "protocol":
        return f"of {candidates_in_words(value)}"
    if name == "cohort":
        return cohort_in_words(value).removeprefix("cohort ")
    return ", ".join(f"{key} {each}" for key, each in value.items()) or "none"


def _check_same_options(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    # Options that change answers must be the same; the address and the concurrency may differ.
    other = [
        f"{name} {_in_words(name, before.get(name))} (now {_in_words(name, now.get(name))})"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if other:
        raise BenchmarkError(
            f"{path} was made with {', '.join(other)}: repeat the replay with those, or choose another --out"
        )
