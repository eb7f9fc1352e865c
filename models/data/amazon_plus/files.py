"""Reads the text files of a data set, JSON and lines of words, whatever bytes they hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.data.report import ReadingReport
from models.errors import DataError

MAX_BYTES = 2 << 30
"""Bytes of a file at most: many times the largest data set of this layout, and what memory can hold."""

_SEPARATORS = ",;"
_MARKS_OF_LISTS = "[]()\"'"


def read_text(path: Path) -> str:
    """Reads a file of UTF-8 text, with or without a byte order mark.

    Raises:
        DataError: it is missing, too large or not UTF-8.
    """
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise DataError(f"{path} has {size:,} bytes, more than {MAX_BYTES:,}: is it the right file?")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} is missing: the Amazon Review Plus layout needs it") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): change its rights") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}): fetch it again, or convert it") from error
    except MemoryError:
        raise _too_large(path) from None


def read_json(path: Path, report: ReadingReport) -> Any:
    """Reads a JSON file; of equal names in one object the first counts, and the others are left out.

    Raises:
        DataError: it is missing, too large, or not JSON.
    """
    objects = _Objects()
    try:
        value = json.loads(read_text(path), object_pairs_hook=objects)
    except RecursionError:
        raise DataError(f"{path} is nested too deeply: it is no file of this layout") from None
    except MemoryError:
        raise _too_large(path) from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}): fetch it again") from error
    if objects.repeated:
        report.read("JSON entries", objects.entries)
        report.leave_out(
            "JSON entries",
            "their name stands twice in one object: the first is read",
            f"{path.name}, name {shown(objects.first)}",
            objects.repeated,
        )
    return value


class _Objects:
    """Makes the objects of a JSON text, and counts names that stand twice in one."""

    def __init__(self) -> None:
        self.entries = self.repeated = 0
        self.first = ""

    def __call__(self, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        self.entries += len(pairs)
        if len(value) < len(pairs):
            value = {}
            for name, each in pairs:
                if name in value:
                    self.first = self.first if self.repeated else name
                    self.repeated += 1
                else:
                    value[name] = each
        return value


def text_lines(path: Path, report: ReadingReport) -> tuple[list[str], bool]:
    """Splits a file into lines of words with white space between them.

    Where most lines hold commas or semicolons, these separate the words; the brackets and quotation marks of
    lists in such a file are no part of them.

    Returns:
        The lines, empty ones too, and whether the last one lacks its end.

    Raises:
        DataError: it is missing, too large or not UTF-8.
    """
    text = read_text(path)
    if "\n" not in text:
        text = text.replace("\r", "\n")  # the ends of lines of old Macs
    lines = text.split("\n")  # not splitlines(): it also splits at separators such as U+2028
    for mark in _SEPARATORS:
        if mark in text and 2 * sum(mark in line for line in lines) > sum(map(bool, lines)):
            report.change("files", f"their words are separated by {mark!r}", path.name)
            spaces = str.maketrans(dict.fromkeys(_SEPARATORS + _MARKS_OF_LISTS, " "))
            return text.translate(spaces).split("\n"), not text.endswith("\n")
    return lines, not text.endswith("\n")


def shown(text: str) -> str:
    """Makes a text of a file fit to stand in a message: short, and without characters that cannot be seen."""
    short = text if len(text) <= 40 else text[:40] + "…"
    return short if short.isprintable() else ascii(short)


def _too_large(path: Path) -> DataError:
    return DataError(f"{path} needs more memory than there is: is it the right file?")
