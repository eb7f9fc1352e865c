"""Reads tables of JSON: an object a line, or one array of objects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from models.data.tables.contents import OpenText, open_text
from models.data.tables.table import BATCH, NOT_UTF8, Batch, Faults
from models.errors import DataError

MAX_RECORD = 16 << 20  # characters of an object
_CHUNK = 1 << 20  # characters that are read of an array at once
_LOOKED_AT = 200  # objects whose names are the table's columns
_BLANK = " \t\r\n,"  # between the objects of an array

_NO_JSON = "it is no JSON"
_NO_OBJECT = "it is no JSON object"


class JsonTable:
    """A table of JSON; see ``Table``. Its columns are the names in the first objects.

    Args:
        path: file, packed or not.

    Raises:
        DataError: it is no text, an array that is damaged, or holds no object at its beginning.
    """

    first = ""

    def __init__(self, path: Path) -> None:
        self._path = path
        with open_text(path) as text:
            self.unit = "row" if _first_character(text.stream) == "[" else "line"
        with open_text(path) as text:
            names: dict[str, None] = {}
            for _, record in islice(self._records(text), _LOOKED_AT):
                if isinstance(record, dict):
                    names |= dict.fromkeys(record)
        if not names:
            raise DataError(
                f"{path} begins as JSON does, and no {self.unit} at its beginning is an object with fields: "
                "write an object a line, or one array of objects"
            )
        self.columns = tuple(names)

    def batches(self, wanted: Sequence[int], faults: Faults) -> Iterator[Batch]:
        """Reads the objects; blank lines are none."""
        names = [self.columns[at] for at in wanted]
        with open_text(self._path) as text:
            numbers: list[int] = []
            rows: list[dict[str, Any]] = []
            for number, record in self._records(text):
                if not isinstance(record, dict):
                    faults.leave_out(*_fault(record), number)
                    continue
                numbers.append(number)
                rows.append(record)
                if len(rows) == BATCH:
                    yield Batch(numbers, [[row.get(name) for row in rows] for name in names])
                    numbers, rows = [], []
                    text.advance()
            yield Batch(numbers, [[row.get(name) for row in rows] for name in names])

    def _records(self, text: OpenText) -> Iterator[tuple[int, object]]:
        return _array(text, self._path) if self.unit == "row" else _lines(text)


def looks_like_json(path: Path) -> bool:
    """Returns whether the text of a file begins as JSON does.

    Raises:
        DataError: it is no text.
    """
    with open_text(path) as text:
        return _first_character(text.stream) in ("{", "[")


class _Broken(str):
    """The reason why something in the place of an object is none."""


def _fault(record: object) -> tuple[str]:
    return (str(record),) if isinstance(record, _Broken) else (_NO_OBJECT,)


def _first_character(stream: TextIO) -> str:
    return next(
        (text[0] for line in iter(lambda: stream.readline(_CHUNK), "") if (text := line.lstrip())), ""
    )


def _lines(text: OpenText) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(iter(lambda: text.stream.readline(MAX_RECORD), ""), 1):
        if text.is_broken(line):
            yield number, _Broken(NOT_UTF8)
        elif line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, _Broken(_NO_JSON)


def _array(text: OpenText, path: Path) -> Iterator[tuple[int, object]]:
    """Yields the objects of an array one by one, so that the whole is never held."""
    decode = json.JSONDecoder().raw_decode
    held, at, number = text.stream.read(_CHUNK).lstrip()[1:], 0, 1
    while True:
        while at < len(held) and held[at] in _BLANK:
            at += 1
        if held[at : at + 1] == "]":
            return
        try:
            record, end = decode(held, at)
        except (ValueError, RecursionError):
            more = text.stream.read(_CHUNK)
            if not more or len(held) - at > MAX_RECORD:
                raise DataError(
                    f"{path}, row {number}: the array is no JSON from here on: write the table out again"
                ) from None
            held, at = held[at:] + more, 0
            continue
        yield number, _Broken(NOT_UTF8) if text.is_broken(held[at:end]) else record
        at, number = end, number + 1
