"""Reads tables of text: CSV, TSV, with semicolons or bars, and RecBole's atomic files.

The standard library reads the rows, not polars: that refuses a whole file for one quote too many, and does
not say which lines it filled up or cut.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from models.data.tables.contents import OpenText, open_text
from models.data.tables.table import BATCH, NOT_UTF8, Batch, Faults
from models.errors import DataError

DELIMITERS = "\t,;|"
"""Characters between fields, one of which the first line tells."""

MAX_LINE = 4 << 20  # characters; a longer line is taken in pieces, which are then left out
MAX_FIELD = 1 << 20  # characters; descriptions of products with pictures in them have hundreds of thousands
csv.field_size_limit(MAX_FIELD)  # for the process; the standard library's own is 131,072

_ATOMIC = re.compile(r":(token|token_seq|float|float_seq)$")  # the type at the end of RecBole's column names
_EXCEL = re.compile(r"sep=(.)\r?\n?")  # Excel's own first line

_RAGGED = "the line has more or fewer fields than the first"
_QUOTES = (
    f"a quote is not closed, text follows a closed one, or a field has more than {MAX_FIELD:,} characters"
)
_LONE_QUOTE = "a quote that is not closed was taken as a character"

_SWALLOWED, _PATIENCE = 50, 100  # lines that a quote swallowed; how often that is borne


class DelimitedTable:
    """A table of text; see ``Table``.

    Args:
        path: file, packed or not.

    Raises:
        DataError: it is no text, or its first line holds no column names.
    """

    unit = "line"

    def __init__(self, path: Path) -> None:
        self._path = path
        with open_text(path) as text:
            lines = _Lines(text)
            self._delimiter, self._quoting, names = _header(lines, path)
            self.first = lines.shown
        # RecBole's file has types in its names and no quotes.
        self.columns = tuple(_ATOMIC.sub("", name).strip() for name in names)

    def batches(self, wanted: Sequence[int], faults: Faults) -> Iterator[Batch]:
        """Reads the rows; blank lines and lines of empty fields are none."""
        with open_text(self._path) as text:
            lines = _Lines(text)
            _header(lines, self._path)
            numbers: list[int] = []
            rows: list[list[str]] = []
            for number, row in self._rows(lines, faults):
                numbers.append(number)
                rows.append(row)
                if len(rows) == BATCH:
                    yield Batch(numbers, [[row[at] for row in rows] for at in wanted])
                    numbers, rows = [], []
                    text.advance()
            yield Batch(numbers, [[row[at] for row in rows] for at in wanted])

    def _rows(self, lines: _Lines, faults: Faults) -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(lines, delimiter=self._delimiter, quoting=self._quoting, strict=True)
        width, swallowed = len(self.columns), 0
        while True:
            number = lines.begin_record()
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error:
                swallowed += len(lines.record) > _SWALLOWED
                if swallowed > _PATIENCE:
                    raise DataError(
                        f"{self._path}, line {number}: its quotes do not close, as of {_PATIENCE} lines "
                        "before: write the table out again, with quotes in pairs"
                    ) from None
                row = lines.record[0].rstrip("\r\n").split(self._delimiter)
                lines.put_back()
                if len(row) != width:
                    faults.leave_out(_QUOTES, number)
                    continue
                faults.change(_LONE_QUOTE, number)
            if len(row) < 2 and not "".join(row).strip():
                continue
            if len(row) > width and not any(row[width:]):  # a delimiter at the end of each line
                del row[width:]
            if lines.is_broken():
                faults.leave_out(NOT_UTF8, number)
            elif len(row) != width:
                faults.leave_out(_RAGGED, number)
            elif any(row):
                yield number, row


class _Lines:
    """Lines of a file, the last of which can be given once more."""

    def __init__(self, text: OpenText) -> None:
        self._text = text
        self._again: list[str] = []  # last first
        self._number = 0
        self.record: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else self._text.stream.readline(MAX_LINE)
        if not line:
            raise StopIteration
        self._number += 1
        self.record.append(line)
        return line

    @property
    def shown(self) -> str:
        """The record's first line, short enough for a message."""
        line = self.record[0].strip() if self.record else ""
        return line if len(line) <= 100 else f"{line[:100]}…"

    def begin_record(self) -> int:
        """Returns the number of the line that comes next."""
        self.record.clear()
        return self._number + 1

    def put_back(self) -> None:
        """Makes the lines of the record but the first come again."""
        self._number -= len(self.record) - 1
        self._again.extend(self.record[:0:-1])
        del self.record[1:]

    def is_broken(self) -> bool:
        return any(map(self._text.is_broken, self.record))


def _header(lines: _Lines, path: Path) -> tuple[str, Literal[0, 3], list[str]]:
    """Reads the line of column names; returns the delimiter, how quotes are meant, and the names."""
    told = ""
    for line in lines:
        if (excel := _EXCEL.fullmatch(line)) is not None:
            told = excel[1]
        elif line.strip():
            lines.begin_record()
            lines.record.append(line)
            break
    else:
        raise DataError(f"{path} is empty: a line of column names and the rows of the table belong there")
    if lines.is_broken():
        raise DataError(f"{path}, the line of column names: {NOT_UTF8}")
    fields = line.rstrip("\r\n").split("\t")
    if all(map(_ATOMIC.search, fields)):
        return "\t", csv.QUOTE_NONE, fields
    delimiter = told or max(DELIMITERS, key=line.count)
    try:
        names = next(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error:
        raise DataError(
            f"{path}: the first line must hold the names of the columns, and its quotes do not close: "
            f"{lines.shown}"
        ) from None
    return delimiter, csv.QUOTE_MINIMAL, names
