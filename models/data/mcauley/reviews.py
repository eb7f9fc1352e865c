"""Reads the reviews and keeps their 5-core, as arrays of numbers."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.data.k_core import k_core
from models.data.mcauley.records import Records
from models.data.repeats import is_repeat
from models.data.report import ReadingReport
from models.data.times import TimeNotations

CORE = 5
"""Reviews that every user and every item must have; rarer ones are left out, as in McAuley's 5-core files."""

_MOST_DIGITS = 256
"""Digits of a number that is an id; a longer one is refused as an id anyway, and slow to write."""


@dataclass(frozen=True)
class Core:
    """The 5-core of the reviews.

    Attributes:
        users: public ids of the users, in the order of their first reviews.
        user_lines: int64 [users], number of the line that names the user first.
        items: public ids of the items, in the order in which the histories have them.
        item_lines: int64 [items], number of the line that names the item first.
        offsets: int64 [users + 1]; the history of user u is ``item_rows[offsets[u]:offsets[u + 1]]``.
        item_rows: int32 [reviews], oldest first.
    """

    users: tuple[str, ...]
    user_lines: NDArray[np.int64]
    items: tuple[str, ...]
    item_lines: NDArray[np.int64]
    offsets: NDArray[np.int64]
    item_rows: NDArray[np.int32]


class _Ids:
    """Numbers ids from 0 in the order of their first appearance."""

    def __init__(self) -> None:
        self._number_of: dict[str, int] = {}
        self._lines = array("q")

    def number(self, public_id: str, line: int) -> int:
        number = self._number_of.setdefault(public_id, len(self._lines))
        if number == len(self._lines):
            self._lines.append(line)
        return number

    def take(self, numbers: NDArray[np.int64]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """Returns the ids of some numbers and their first lines."""
        ids = list(self._number_of)
        return tuple(ids[number] for number in numbers.tolist()), _int64(self._lines)[numbers]


def id_of(record: Mapping[str, Any], *fields: str) -> str | None:
    """Returns the id in the first of the fields that has one; a whole number is its digits."""
    for field in fields:
        value = record.get(field)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, (int, float)) and (digits := _digits(value)):
            return digits
    return None


def _digits(value: float) -> str | None:
    # JSON true is an int to Python; a column of numbers with gaps is often written with fractions: 12.0.
    if isinstance(value, bool) or not abs(value) < 10**_MOST_DIGITS or value != int(value):
        return None
    return str(int(value))


def read_core(records: Records, report: ReadingReport) -> Core:
    """Reads reviews and filters them to the 5-core.

    Histories are in order of time, ties in the order of the file. A user who reviews an item again keeps the
    first review alone: repeats would count twice for the 5-core, and could put a test item into its own
    history. A review without user, item or time is left out.

    Raises:
        DataError: the file cannot be read.
    """
    user_ids, item_ids, notations = _Ids(), _Ids(), TimeNotations()
    users, items, lines, times = array("i"), array("i"), array("q"), array("d")
    for line, record in records:
        user = id_of(record, "reviewerID", "user_id")
        item = id_of(record, "parent_asin", "asin")
        if user is None or item is None:
            records.leave_out(line, "it has no id of a user" if user is None else "it has no id of an item")
            continue
        time = _time(record, line, notations)
        if time is None:
            records.leave_out(line, "it has no time between 1970 and 2100")
            continue
        users.append(user_ids.number(user, line))
        items.append(item_ids.number(item, line))
        lines.append(line)
        times.append(time)
    for reason, line, number in notations.odd_ones():
        report.change("interactions", reason, records.place(line), number)
    # Stable: reviews of one day stay in the order of the file.
    order = np.argsort(np.frombuffer(times, dtype=np.float64), kind="stable")
    by_time = _int64(users)[order], _int64(items)[order]
    first = ~is_repeat(*by_time)
    if repeats := len(order) - int(first.sum()):
        place = records.place(int(_int64(lines)[order[~first]].min()))
        report.change("interactions", "a user reviews an item again: the first one is kept", place, repeats)
    users_of, items_of, lines_of = by_time[0][first], by_time[1][first], _int64(lines)[order[first]]
    kept = k_core(users_of, items_of, CORE)
    if not kept.all():
        place = records.place(int(lines_of[~kept].min()))
        report.skip("interactions", f"they are not in the {CORE}-core", place, int((~kept).sum()))
    return _core(users_of[kept], items_of[kept], user_ids, item_ids)


def _time(record: Mapping[str, Any], line: int, notations: TimeNotations) -> float | None:
    for field in ("unixReviewTime", "timestamp", "reviewTime"):
        if (value := record.get(field)) is not None and (time := notations.parse(value, line)) is not None:
            return time
    return None


def _core(users: NDArray[np.int64], items: NDArray[np.int64], user_ids: _Ids, item_ids: _Ids) -> Core:
    """Makes histories of the pairs of the 5-core, which are in order of time."""
    user_numbers, positions = _in_order_of_appearance(users)
    by_user = np.argsort(positions, kind="stable")
    item_numbers, rows = _in_order_of_appearance(items[by_user])
    public_users, user_lines = user_ids.take(user_numbers)
    public_items, item_lines = item_ids.take(item_numbers)
    counts = np.bincount(positions, minlength=len(user_numbers))
    return Core(
        users=public_users,
        user_lines=user_lines,
        items=public_items,
        item_lines=item_lines,
        offsets=np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts))),
        item_rows=rows.astype(np.int32),
    )


def _in_order_of_appearance(numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the different numbers in the order of their first appearance, and the position of each."""
    different, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    order = np.argsort(first)
    position_of = np.empty(len(order), dtype=np.int64)
    position_of[order] = np.arange(len(order))
    return different[order], position_of[inverse]


def _int64(values: array[int]) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)
