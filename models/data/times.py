"""Reads notations of time: numbers since 1970 in any unit, ISO 8601, and the dates that data sets have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LATEST = 4_102_444_800
"""2100-01-01 in seconds since 1970: what is not before is no time of an interaction."""

SECONDS = "seconds"
DATES = "calendar dates"

_EARLIEST_IN_OTHER_UNITS = 315_532_800
"""1980-01-01. In seconds any time since 1970 is read, but a number that is too large for seconds and would be
1970 in milliseconds is more likely an odd number of seconds, so no time."""

_UNITS = ((1, SECONDS), (1_000, "milliseconds"), (1_000_000, "microseconds"), (1_000_000_000, "nanoseconds"))
_NOTATIONS = (*(unit for _, unit in _UNITS), DATES)

_LONGEST = 64
"""Characters of a time at most."""

_YEAR_FIRST = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[T ]\s*(\d{1,2})(:.*))?")
_MONTH_FIRST = re.compile(r"(\d{1,2}) (\d{1,2}), (\d{4})")  # "09 13, 2009", McAuley's reviewTime
_RFC_2822 = re.compile(r"(?:[A-Za-z]{3},\s*)?\d{1,2} [A-Za-z]{3} \d{4} \d{1,2}:\d{2}")


def parse_time(value: object) -> float | None:
    """Parses a time in any notation that ``parse_notation`` knows.

    Returns:
        Seconds since 1970; None for what is no time between 1970 and 2100.
    """
    found = parse_notation(value)
    return found[0] if found else None


def parse_notation(value: object) -> tuple[float, str] | None:
    """Parses a time, and tells its notation.

    Args:
        value: a number, or a text that holds one, of seconds, milliseconds, microseconds or nanoseconds since
            1970 (the unit is told by the magnitude); or a date or date with time of ISO 8601, ``2014/05/01``,
            ``05 1, 2014`` (month, day, year) or RFC 2822. A time without a zone is UTC.

    Returns:
        Seconds since 1970, and ``seconds``, ``milliseconds``, ``microseconds``, ``nanoseconds`` or
        ``calendar dates``; None for what is no time between 1970 and 2100.
    """
    if isinstance(value, str):
        return _of_text(value.strip()) if len(value) <= _LONGEST else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):  # JSON true is an int to Python
        return None
    return _of_number(value)


class TimeNotations:
    """The times of one column, of which some may be in another notation than most."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int]] = {}  # notation -> number of values, first line

    def parse(self, value: object, line: int) -> float | None:
        """Parses a time as ``parse_time``, and keeps in mind which notation it had on which line."""
        found = parse_notation(value)
        if found is None:
            return None
        seconds, notation = found
        number, first = self._seen.get(notation, (0, line))
        self._seen[notation] = number + 1, first
        return seconds

    def odd_ones(self) -> Iterator[tuple[str, int, int]]:
        """Yields what is in another notation than most values: the reason, the first line and the number."""
        most = max(_NOTATIONS, key=lambda notation: self._seen.get(notation, (0, 0))[0])
        for notation, (number, first) in self._seen.items():
            if notation != most:
                yield f"their time is in {notation} among {most}", first, number


def _of_number(value: float) -> tuple[float, str] | None:
    earliest = 0
    for divisor, unit in _UNITS:
        # Not divided before it is compared: an integer may be too large for a float.
        if earliest * divisor <= value < LATEST * divisor:
            return value / divisor, unit
        earliest = _EARLIEST_IN_OTHER_UNITS
    return None


def _of_text(text: str) -> tuple[float, str] | None:
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        return _of_number(number)
    try:
        moment = _date(text)
    except (ValueError, TypeError, IndexError, OverflowError):  # the last three of parsedate_to_datetime
        return None
    if moment is None:
        return None
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return (seconds, DATES) if 0 <= seconds < LATEST else None


def _date(text: str) -> datetime | None:
    if match := _MONTH_FIRST.fullmatch(text):
        month, day, year = map(int, match.groups())
        return datetime(year, month, day)
    if match := _YEAR_FIRST.fullmatch(text):
        year, month, day = (int(part) for part in match.groups()[:3])
        hour, rest = int(match[4] or 0), (match[5] or ":00").removesuffix("UTC").strip()
        return datetime.fromisoformat(f"{year:04}-{month:02}-{day:02}T{hour:02}{rest}")
    if _RFC_2822.match(text):
        return parsedate_to_datetime(text)
    return datetime.fromisoformat(text)  # weeks, dates without hyphens
