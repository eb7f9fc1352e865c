"""Reads the histories of the users, ``sequential.txt`` or a pickle of lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.data.amazon_plus.files import shown, text_lines
from models.data.amazon_plus.ids import DATAMAPS, UNKNOWN, IdMap, id_text
from models.data.report import ReadingReport
from models.errors import DataError

SEQUENTIAL = "sequential.txt"
PURCHASE_HISTORY = "purchase_history.pkl"

MAX_INTERACTIONS = 5_000_000
"""Interactions of a pickle at most: a list that stands in it many times over takes no memory before."""


@dataclass(frozen=True)
class Lists:
    """Lists of items, one for each user, as a file has them.

    Attributes:
        source: name of the file.
        users: id of the user of each list; None where the file has lists alone, in the order of the users.
        lengths: number of items of each list.
        items: ids of the items of all lists, list after list.
        place: function of a list's position to where it stands in the file.
        is_cut: whether the file may end in the middle of its last word.
    """

    source: str
    users: Sequence[str] | None
    lengths: Sequence[int]
    items: Sequence[str]
    place: Callable[[int], str]
    is_cut: bool = False


@dataclass(frozen=True)
class Histories:
    """The known items of the known users.

    Attributes:
        users: number of the user of each history in ``datamaps.json``; a user may have several.
        offsets: int64 [histories + 1]; history h is ``item_rows[offsets[h]:offsets[h + 1]]``.
        item_rows: int32 [interactions], numbers of the items in ``datamaps.json``, oldest first.
        place: function of a history's position to where it stands in the file.
    """

    users: Sequence[int]
    offsets: NDArray[np.int64]
    item_rows: NDArray[np.int32]
    place: Callable[[int], str]

    def __iter__(self) -> Iterator[tuple[int, NDArray[np.int32]]]:
        """Yields the number of the user and the item rows of each history."""
        bounds = self.offsets.tolist()
        for user, start, end in zip(self.users, bounds, bounds[1:], strict=False):
            yield user, self.item_rows[start:end]


def text_lists(path: Path, report: ReadingReport) -> Lists:
    """Reads a file of a line per user: the user's id, then those of the items.

    Raises:
        DataError: it is missing, too large, not UTF-8 or empty.
    """
    lines, is_cut = text_lines(path, report)
    numbers: list[int] = []
    users: list[str] = []
    lengths: list[int] = []
    items: list[str] = []
    try:
        for number, line in enumerate(lines, 1):
            if words := line.split():
                numbers.append(number)
                users.append(words[0])
                lengths.append(len(words) - 1)
                items += words[1:]
    except MemoryError:
        raise DataError(f"{path} needs more memory than there is: is it the right file?") from None
    if not users:
        raise DataError(f"{path} is empty: it must hold a line per user; fetch it again")
    return Lists(path.name, users, lengths, items, lambda at: f"{path.name}, line {numbers[at]}", is_cut)


def plain_lists(value: object, path: Path, report: ReadingReport) -> Lists:
    """Reads lists of a pickle or JSON: an object from user to list, or a list per user in the order of users.

    Raises:
        DataError: it is something else, or has more than ``MAX_INTERACTIONS``.
    """
    if isinstance(value, dict):
        keys, lists = [id_text(key) or "" for key in value], list(value.values())
    elif isinstance(value, (list, tuple)):
        keys, lists = [], list(value)
    else:
        raise DataError(f"{path} must hold a list of lists, not a {type(value).__name__}")
    odd = [at for at, items in enumerate(lists) if not isinstance(items, (list, tuple))]
    if not lists or 2 * len(odd) > len(lists):
        raise DataError(f"{path} must hold a list of lists: a list of items for each user")
    if sum(len(items) for items in lists if isinstance(items, (list, tuple))) > MAX_INTERACTIONS:
        raise DataError(f"{path} has more than {MAX_INTERACTIONS:,} interactions: write a text file instead")

    def place(at: int) -> str:
        return f"{path.name}, user {shown(keys[at]) if keys else at + 1}"

    for at in odd:
        report.leave_out("lists", "they are no list of items", place(at))
        lists[at] = ()
    if odd:
        report.read("lists", len(lists))
    return Lists(
        source=path.name,
        users=keys or None,
        lengths=list(map(len, lists)),
        items=[id_text(item) or "" for items in lists for item in items],
        place=place,
    )


def histories(
    lists: Lists,
    users: IdMap,
    items: IdMap,
    report: ReadingReport,
) -> Histories:
    """Finds the users and items of lists; unknown ones are left out and counted.

    Args:
        lists: lists.
        users: users of the data set.
        items: items of the data set.
        report: report that they are counted in.

    Raises:
        DataError: most ids are unknown, or lists without users' ids are not as many as users.
    """
    user_numbers = _user_numbers(lists, users)
    rows = items.numbers(lists.items, lists.source)
    lengths = np.array(lists.lengths, dtype=np.int64)
    known_list = user_numbers != UNKNOWN
    list_of = np.repeat(np.arange(len(lengths)), lengths)  # [items]
    known = rows != UNKNOWN
    if lists.is_cut and lists.lengths[-1] and not known[-1]:
        place = lists.place(len(lengths) - 1)
        report.change("interactions", "the last word of a file without an end is cut: left out", place)
        rows, list_of, known = rows[:-1], list_of[:-1], known[:-1]
    elif lists.is_cut:
        report.change("files", "their last line has no end, so its last id may be cut", lists.source)
    if lists.users is not None:
        _leave_out(report, "users", f"{DATAMAPS} lacks them", lists, np.flatnonzero(~known_list))
    of_unknown = ~known_list[list_of]
    _leave_out(report, "interactions", f"{DATAMAPS} lacks their user", lists, list_of[of_unknown])
    _leave_out(report, "interactions", f"{DATAMAPS} lacks their item", lists, list_of[~known & ~of_unknown])
    known &= ~of_unknown
    left = np.bincount(list_of[known], minlength=len(lengths))
    emptied = known_list & (lengths > 0) & (left == 0)
    _leave_out(report, "users", "none of their items is left", lists, np.flatnonzero(emptied))
    kept = np.flatnonzero(known_list & ~emptied)
    return Histories(
        users=user_numbers[kept].tolist(),
        offsets=np.concatenate([[0], np.cumsum(left[kept])]).astype(np.int64),
        item_rows=rows[known],
        place=lambda at: lists.place(int(kept[at])),
    )


def _user_numbers(lists: Lists, users: IdMap) -> NDArray[np.int32]:
    if lists.users is not None:
        return users.numbers(lists.users, lists.source)
    if len(lists.lengths) == len(users):
        return np.arange(len(users), dtype=np.int32)
    if len(lists.lengths) == len(users) + 1 and not lists.lengths[0]:  # the place of 0 where ids begin with 1
        return np.arange(UNKNOWN, len(users), dtype=np.int32)
    raise not_as_many(lists, len(users))


def not_as_many(lists: Lists, users: int) -> DataError:
    """Makes the error of lists without ids that are more or fewer than the users."""
    return DataError(
        f"{lists.source} has {len(lists.lengths):,} lists without ids, and there are {users:,} users: whose "
        "they are cannot be known"
    )


def check_pickled(lists: Lists, ours: Histories, users: IdMap, items: IdMap, report: ReadingReport) -> None:
    """Compares the lists of a pickle with the histories of ``sequential.txt``, which count.

    Raises:
        DataError: they disagree about most users, so that one of the two files is of other data.
    """
    known = {user: tuple(dict.fromkeys(rows.tolist())) for user, rows in reversed(list(ours))}
    rows = iter(items.numbers(lists.items, lists.source).tolist())
    # Repeats and unknown items are taken out on both sides.
    pickled = [
        tuple(dict.fromkeys(row for row in islice(rows, length) if row != UNKNOWN))
        for length in lists.lengths
    ]
    orders: list[Sequence[int]]
    if lists.users is None:
        in_file = list(dict.fromkeys(ours.users))
        orders = [order for order in (in_file, range(len(users))) if len(order) == len(pickled)]
        if not orders:
            raise not_as_many(lists, len(in_file))
    else:
        orders = [users.numbers(lists.users, lists.source).tolist()]
    wrong = min((_disagreeing(known, order, pickled) for order in orders), key=len)
    if 2 * len(wrong) > len(known):
        raise DataError(
            f"{lists.source} and {SEQUENTIAL} disagree about {len(wrong):,} of {len(known):,} users, first "
            f"user {shown(users.internal[wrong[0]])}: remove the wrong one"
        )
    report.read("pickled histories", len(known))
    if wrong:
        place = f"{lists.source}, user {shown(users.internal[wrong[0]])}"
        reason = f"they are not those of {SEQUENTIAL}, which count"
        report.leave_out("pickled histories", reason, place, len(wrong))


def _disagreeing(
    known: Mapping[int, tuple[int, ...]],
    order: Sequence[int],
    pickled: Sequence[tuple[int, ...]],
) -> list[int]:
    """Returns the numbers of the users whose pickled history is another one, or is not there."""
    theirs = {user: rows for user, rows in zip(order, pickled, strict=True) if user != UNKNOWN}
    return [user for user in {**known, **theirs} if known.get(user, ()) != theirs.get(user, ())]


def _leave_out(report: ReadingReport, kind: str, reason: str, lists: Lists, which: NDArray[np.int64]) -> None:
    """Counts records that are left out; ``assemble`` sees and counts only those that are not."""
    if which.size:
        report.read(kind, which.size)
        report.leave_out(kind, reason, lists.place(int(which[0])), which.size)
