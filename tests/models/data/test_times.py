from __future__ import annotations

import pytest

from models.data.times import TimeNotations, parse_notation, parse_time

MAY_DAY = 1_398_902_400  # 2014-05-01T00:00Z


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (MAY_DAY, "seconds"),
        (float(MAY_DAY), "seconds"),
        (str(MAY_DAY), "seconds"),
        (f" {MAY_DAY}.0 ", "seconds"),
        (MAY_DAY * 10**3, "milliseconds"),
        (f"{MAY_DAY}000", "milliseconds"),
        (MAY_DAY * 10**6, "microseconds"),
        (MAY_DAY * 10**9, "nanoseconds"),
    ],
)
def test_the_unit_of_a_number_is_told_by_its_magnitude(value: object, unit: str) -> None:
    assert parse_notation(value) == (MAY_DAY, unit)


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("2014-05-01", 0),
        ("2014/05/01", 0),
        ("2014/5/1", 0),
        ("05 1, 2014", 0),
        ("2014-05-01T10:00:00", 10),
        ("2014-05-01 10:00:00 UTC", 10),
        ("2014-05-01T10:00:00Z", 10),
        ("2014-05-01 9:00:00.0+02:00", 7),
        ("20140501T100000", 10),
        ("Thu, 01 May 2014 10:00:00 +0200", 8),
        ("1 May 2014 10:00", 10),
    ],
)
def test_a_date_without_a_zone_is_utc(text: str, hours: int) -> None:
    assert parse_notation(text) == (MAY_DAY + hours * 3600, "calendar dates")


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, [], {}, "", "soon", "2014-13-01", "13 1, 2014", "01/05/2014", "\ud800", "9" * 5000),
        *(-1, "-1", float("nan"), float("inf"), "nan", 10**400),
        # Before 1970, after 2100, and what would be 1970 in milliseconds.
        *("1969-12-31", "2100-01-01", 4_102_444_800, 9_999_999_999, 5 * 10**18),
        *("0001-01-01T00:00:00+23:59", "Thu, 99 May 2014 10:00:00 +9999999"),
    ],
)
def test_what_is_no_time_between_1970_and_2100_is_none(value: object) -> None:
    assert parse_time(value) is None


def test_values_in_another_notation_than_most_are_told_with_their_first_line() -> None:
    notations = TimeNotations()
    values = (MAY_DAY, MAY_DAY * 1000, "no time", MAY_DAY, str(MAY_DAY), MAY_DAY * 1000, "2014-05-01")
    assert {notations.parse(value, line) for line, value in enumerate(values, 1)} == {MAY_DAY, None}
    assert list(notations.odd_ones()) == [
        ("their time is in milliseconds among seconds", 2, 2),
        ("their time is in calendar dates among seconds", 7, 1),
    ]


def test_a_column_in_one_notation_has_no_odd_ones() -> None:
    notations = TimeNotations()
    assert [notations.parse(MAY_DAY * 1000, line) for line in (1, 2)] == [MAY_DAY, MAY_DAY]
    assert not list(notations.odd_ones())
