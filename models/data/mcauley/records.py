"""Reads the records of a file: a JSON object or a Python literal a line, or one JSON array of objects."""

from __future__ import annotations

import ast
import codecs
import json
import re
import warnings
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from models.data.mcauley.blocks import read_blocks
from models.data.report import ReadingReport
from models.errors import DataError

MAX_RECORD = 2 << 20
"""Bytes of a record at most; the largest of McAuley's have some ten thousand."""

MAX_LITERAL = 256 << 10
"""Bytes of a Python literal at most: its syntax tree takes hundreds of times as much memory."""

TRIED = 100_000
"""Records after which a file is refused if 99 % of them were left out: it may have millions more."""

_ARRAY = re.compile(rb"\s*\[\s*(?:\{|\Z)")
_BETWEEN = re.compile(r"[\s,]*")
_NAMES = {"nan": None, "NaN": None, "null": None, "true": True, "false": False}
_DECODER = json.JSONDecoder()


class Records:
    """The records of one file, of which those that cannot be read are left out and counted.

    Args:
        path: file; packed with gzip or not.
        kind: plural name of the records, for the report.
        report: report that they are counted in.
    """

    def __init__(self, path: Path, kind: str, report: ReadingReport) -> None:
        self.path = path
        self._kind = kind
        self._report = report
        self._unit = "line"
        self._read = 0
        self._left_out = 0

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields the number of each line (of each record in an array), from 1, and its contents.

        Raises:
            DataError: the file cannot be read to its end, is of another format, or its array is damaged.
        """
        blocks = read_blocks(self.path)
        first = next(blocks, b"")
        blocks = chain((first,), blocks)
        if _ARRAY.match(first):
            self._unit = "record"
            found = self._elements(blocks)
        else:
            found = self._values(blocks)
        for number, record in found:
            if isinstance(record, dict):
                yield number, record
            else:
                self.leave_out(number, "it is no object")
        self._report.read(self._kind, self._read)

    def place(self, number: int) -> str:
        """Returns where a record stands, for messages."""
        return f"{self.path.name}, {self._unit} {number}"

    def leave_out(self, number: int, reason: str) -> None:
        """Counts a record that is left out.

        Raises:
            DataError: nearly all of many records were left out.
        """
        self._report.leave_out(self._kind, reason, self.place(number))
        self._left_out += 1
        if self._left_out >= TRIED and self._left_out > 0.99 * self._read:
            raise DataError(
                f"{self.path}: {self._left_out:,} of its first {self._read:,} {self._kind} cannot be used "
                f"({self.place(number)}: {reason}): fetch it again"
            )

    def _values(self, blocks: Iterator[bytes]) -> Iterator[tuple[int, Any]]:
        """Yields the number and the value of every line that is not blank and can be parsed."""
        for number, line in enumerate(_lines(blocks), 1):
            if line is not None and (not line or line.isspace()):
                continue
            self._read += 1
            try:
                value = _parse(line)
            except ValueError as error:
                self.leave_out(number, str(error))
                continue
            yield number, value

    def _elements(self, blocks: Iterator[bytes]) -> Iterator[tuple[int, Any]]:
        """Yields the number and the value of every element of an array, with one at a time in memory."""
        texts = self._decoded(blocks)
        text = next(texts, "").lstrip()
        at = 1
        while True:
            at = _end(_BETWEEN, text, at)
            if text[at : at + 1] == "]":
                break
            try:
                # A number at the end of the text may go on in the next block, so it does not count yet.
                element, end = _DECODER.raw_decode(text, at)
                complete = end < len(text)
            except (ValueError, RecursionError):
                complete = False
            if complete:
                self._read += 1
                yield self._read, element
                at = end
                continue
            # As much again as is waiting, so that a long record is not parsed once for each block.
            more = _at_least(texts, len(text) - at)
            if not more or len(text) - at > MAX_RECORD:
                raise DataError(
                    f"{self.path}: record {self._read + 1} of its array is damaged or cut off: fetch it again"
                )
            text, at = text[at:] + more, 0
        if text[at + 1 :].strip() or any(rest.strip() for rest in texts):
            raise DataError(f"{self.path} goes on after the end of its array: write one record a line")

    def _decoded(self, blocks: Iterator[bytes]) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            for block in blocks:
                yield decoder.decode(block)
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path} is not UTF-8 text ({error}): save it as UTF-8") from error


def _lines(blocks: Iterator[bytes]) -> Iterator[bytes | None]:
    """Yields every line without its end; None for one that is longer than ``MAX_RECORD``."""
    begun, skipping = b"", False
    for block in blocks:
        *ended, rest = block.split(b"\n")
        if ended:
            ended[0] = begun + ended[0]
            begun = b""
            if skipping:
                yield None
                del ended[0]
                skipping = False
            for line in ended:
                yield line if len(line) <= MAX_RECORD else None
        if not skipping:
            begun += rest
            if len(begun) > MAX_RECORD:
                begun, skipping = b"", True
    if begun or skipping:
        yield None if skipping else begun


def _parse(line: bytes | None) -> Any:
    """Parses a line as JSON, else as a Python literal, which takes ten times as long: there are both.

    Raises:
        ValueError: it is neither; the message is the reason for a report.
    """
    if line is None:
        raise ValueError(f"it is longer than {MAX_RECORD >> 20} MB")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        pass
    if len(text) <= MAX_LITERAL:
        try:
            return _parse_literal(text)
        except (ValueError, SyntaxError, TypeError, OverflowError, MemoryError, RecursionError):
            pass
    raise ValueError("it is neither JSON nor a Python literal")


def _parse_literal(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd backslashes in product descriptions
        tree = ast.parse(text.strip(), mode="eval")
    if any(name in text for name in _NAMES):
        tree = _NamesOfNothing().visit(tree)
    # Literals alone: a call or a name in the line raises.
    return ast.literal_eval(tree)


class _NamesOfNothing(ast.NodeTransformer):
    """Replaces the names that programs write for a missing value or a truth value by what they mean."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(_NAMES[node.id]) if node.id in _NAMES else node


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _at_least(texts: Iterator[str], characters: int) -> str:
    parts: list[str] = []
    missing = characters
    while missing >= 0 and (part := next(texts, None)) is not None:
        parts.append(part)
        missing -= len(part)
    return "".join(parts)
