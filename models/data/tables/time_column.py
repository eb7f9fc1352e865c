"""Reads the times of a column, dates too whose order of day and month only the whole column tells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from models.data.times import LATEST, parse_time
from models.errors import DataError

# 31.12.2023 14:05, 12/31/2023, 1-12-2023 2:05 PM
_DAY_OR_MONTH_FIRST = re.compile(
    r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})(?:[T,]?\s*(\d{1,2}):(\d\d)(?::(\d\d)(?:\.\d+)?)?\s*([AaPp])?\.?[Mm]?\.?)?"
)
_USUAL = re.compile(r"20\d\d-\d\d-\d\d[T ]\d\d:")  # not before 1970, nor after 2099
_LIKE_A_DATE = re.compile(r"\s*\d{1,2}[./-]\d{1,2}[./-]\d{4}")
_DAY, _MONTH = 0, 1  # columns of the two readings: the day first, or the month


class TimeColumn:
    """The times of a column while it is read.

    Args:
        day_first: whether ``3/4/2024`` is in April; None to tell it by the dates of the column.
    """

    def __init__(self, day_first: bool | None = None) -> None:
        self._day_first = day_first
        self._parts = [np.empty((0, 2))]  # [rows, 2]; the readings are the same for most notations
        self._example: object = None  # the first value that is no time

    @property
    def unread(self) -> str:
        """Why a row has no time, for messages."""
        if self._example is None:
            return "the time is missing"
        return f"the time is missing, or in no usual notation, such as {str(self._example)[:40]!r}"

    def add(self, values: Sequence[object]) -> None:
        """Adds the values of some rows."""
        times = np.array([_time(value) for value in values], dtype=np.float64)  # None becomes NaN
        readings = np.repeat(times[:, None], 2, axis=1)
        for row in np.flatnonzero(np.isnan(times)).tolist():
            value = values[row]
            if isinstance(value, str) and (match := _DAY_OR_MONTH_FIRST.fullmatch(value.strip())):
                readings[row] = _readings(match)
            elif self._example is None and value is not None and value != "":
                self._example = value
        self._parts.append(readings)

    def finish(self, what: str) -> NDArray[np.float64]:
        """Returns seconds since 1970, float64 [rows]; NaN for what is no time.

        Args:
            what: file and column, for messages.

        Raises:
            DataError: whether the day or the month is first cannot be told.
        """
        readings = np.concatenate(self._parts)
        if self._day_first is not None:
            return readings[:, _DAY if self._day_first else _MONTH]
        lost = np.isnan(readings).sum(axis=0)  # rows that are no dates, by what would be first
        if lost[_DAY] == lost[_MONTH] and not np.array_equal(readings[:, _DAY], readings[:, _MONTH], True):
            raise DataError(
                f"{what}: dates such as 03/04/2024 can have the day or the month first: say which with "
                "--dates day-first or --dates month-first"
            )
        return readings[:, _DAY if lost[_DAY] <= lost[_MONTH] else _MONTH]


def _time(value: object) -> float | None:
    """Parses a time as ``parse_time``, the usual form of ISO 8601 in a fifth of the time."""
    if isinstance(value, str):
        if _USUAL.match(value):
            try:
                moment = datetime.fromisoformat(value)
            except ValueError:
                return parse_time(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        if _LIKE_A_DATE.match(value):  # what ``parse_time`` would try in vain
            return None
    return parse_time(value)


def _readings(match: re.Match[str]) -> tuple[float, float]:
    first, mark, second, year, hour, minute, seconds, half = match.groups()
    hours = int(hour or 0) if half is None else int(hour or 0) % 12 + 12 * (half in "Pp")
    clock = (hours, int(minute or 0), int(seconds or 0))
    day_first = _seconds(int(year), int(second), int(first), clock)
    # With dots the day is first wherever dates are written so.
    return day_first, day_first if mark == "." else _seconds(int(year), int(first), int(second), clock)


def _seconds(year: int, month: int, day: int, clock: tuple[int, int, int]) -> float:
    try:
        time = datetime(year, month, day, *clock, tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return float("nan")
    return time if 0 <= time < LATEST else float("nan")
