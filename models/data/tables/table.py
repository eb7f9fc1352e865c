"""Defines what the readers of all formats return: batches of rows, and places where something is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from models.data.report import ReadingReport

BATCH = 20_000
"""Rows that are held at once as Python objects."""

NOT_UTF8 = "the text is not UTF-8 (`iconv -f WINDOWS-1252 -t UTF-8` converts the usual other encoding)"
"""Reason of rows that hold bytes of another encoding."""


@dataclass(frozen=True)
class Batch:
    """Some rows of a table.

    Attributes:
        numbers: line or row number of each, for messages.
        columns: for each column that was asked for, a value of each row, of any type; None or "" where it is
            missing.
    """

    numbers: Sequence[int]
    columns: Sequence[Sequence[object]]


@dataclass(frozen=True)
class Faults:
    """Rows of one table that are left out or mended while it is read.

    Attributes:
        kind: plural name of what the rows are: ``interactions`` or ``items``.
        file: name of the file.
        unit: what its numbers count: ``line`` or ``row``.
        report: report that they are counted in.
    """

    kind: str
    file: str
    unit: str
    report: ReadingReport = field(repr=False)

    def place(self, number: int) -> str:
        """Returns where a row stands."""
        return f"{self.file}, {self.unit} {number}"

    def leave_out(self, reason: str, number: int, count: int = 1) -> None:
        """Counts rows that were read and are left out; ``number`` is that of the first."""
        self.report.read(self.kind, count)
        self.report.leave_out(self.kind, reason, self.place(number), count)

    def skip(self, reason: str, number: int, count: int) -> None:
        """Counts rows that are right and yet not wanted; ``number`` is that of the first."""
        self.report.read(self.kind, count)
        self.report.skip(self.kind, reason, self.place(number), count)

    def change(self, reason: str, number: int, count: int = 1) -> None:
        """Counts rows that are in the data set in another form; ``number`` is that of the first."""
        self.report.change(self.kind, reason, self.place(number), count)


class Table(Protocol):
    """A table in one of the formats, not yet read but for its columns.

    Attributes:
        columns: names of its columns, which may repeat.
        unit: ``line`` or ``row``, for messages.
        first: beginning of the file, for a message about its columns; empty where that tells nothing.
    """

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns."""

    @property
    def unit(self) -> str:
        """What the numbers of rows count."""

    @property
    def first(self) -> str:
        """First line."""

    def batches(self, wanted: Sequence[int], faults: Faults) -> Iterator[Batch]:
        """Reads the rows, ``BATCH`` at a time.

        Args:
            wanted: positions in ``columns``.
            faults: where rows are counted that are left out.

        Raises:
            DataError: the file cannot be read to its end.
        """
