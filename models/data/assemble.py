"""Makes a data set of what a reader found: the checks and repairs that are the same for every layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.contracts import Item
from models.contracts.ids import id_problem
from models.data.dataset import Dataset, Rows
from models.data.repeats import is_repeat
from models.data.report import ReadingReport

GONE = -1
"""New row of an item, or new position of a user, that is left out."""


@dataclass(frozen=True)
class RawData:
    """A data set as its files have it, ids not yet checked.

    Attributes:
        name: name of the data set.
        items: products in the order of their rows.
        users: public user ids in the order of the histories.
        offsets: int64 [users + 1]; user u took ``item_rows[offsets[u]:offsets[u + 1]]``.
        item_rows: rows of all interactions, user after user, oldest first, each at least 0.
        item_place: function of a row to where the item stands in the files, for messages.
        user_place: function of a position to where the user stands in the files.
        images: folder that ``Item.image`` names are relative to; None without pictures.
        captions: caption by captioner and item row.
        negatives: item rows by user position; None without any.
    """

    name: str
    items: Sequence[Item]
    users: Sequence[str]
    offsets: NDArray[np.int64]
    item_rows: NDArray[np.int32]
    item_place: Callable[[int], str]
    user_place: Callable[[int], str]
    images: Path | None = None
    captions: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    negatives: Mapping[int, Rows] | None = None


def assemble(raw: RawData, report: ReadingReport) -> Dataset:
    """Checks ids, takes repeats out of the histories, and says in the report what that changed.

    An item or user whose id cannot be named is left out with all its interactions. Items with one id are one
    item, the first. Of users with one id the later ones are left out. A user who takes an item again keeps
    the first time only, since a repeat could put a test item into its own history.

    Returns:
        The data set, with the report in it. Items keep their order, and so do users.
    """
    report.read("items", len(raw.items))
    report.read("users", len(raw.users))
    report.read("interactions", len(raw.item_rows))
    row_of = _new_rows(raw, report)
    kept_users = _kept_users(raw, report)
    lengths = np.diff(raw.offsets)
    user_of = np.repeat(np.arange(len(raw.users)), lengths)  # [interactions]
    rows = row_of[raw.item_rows] if len(raw.item_rows) else raw.item_rows.astype(np.int64)
    kept = kept_users[user_of]
    _count_interactions(raw, report, ~kept, user_of, "their user is left out")
    gone = kept & (rows == GONE)
    _count_interactions(raw, report, gone, user_of, "their item is left out")
    kept &= ~gone
    repeats = np.zeros_like(kept)
    repeats[kept] = is_repeat(user_of[kept], rows[kept])
    if repeats.any():
        place = raw.user_place(int(user_of[np.argmax(repeats)]))
        report.change(
            "interactions", "a user takes an item again: the first time is kept", place, int(repeats.sum())
        )
    kept &= ~repeats
    counts = np.bincount(user_of[kept], minlength=len(raw.users)) if len(raw.users) else lengths
    emptied = kept_users & (lengths > 0) & (counts == 0)
    if emptied.any():
        place = raw.user_place(int(np.argmax(emptied)))
        report.leave_out("users", "none of their items is left", place, int(emptied.sum()))
    kept_users = kept_users & ~emptied
    taken, bounds = rows[kept].astype(np.int32), [0, *np.cumsum(counts[kept_users]).tolist()]
    position_of = np.where(kept_users, np.cumsum(kept_users) - 1, GONE)
    return Dataset(
        name=raw.name,
        items=_kept_items(raw, row_of),
        users=tuple(user for user, keep in zip(raw.users, kept_users, strict=True) if keep),
        histories=tuple(taken[start:end] for start, end in pairwise(bounds)),
        images=raw.images,
        captions=_moved_captions(raw.captions, row_of),
        negatives=_moved_negatives(raw.negatives, row_of, position_of),
        report=report,
    )


def _new_rows(raw: RawData, report: ReadingReport) -> NDArray[np.int64]:
    """Returns the new row of each item, int64 [items]; GONE for one that is left out."""
    first: dict[str, int] = {}
    row_of = np.full(len(raw.items), GONE, dtype=np.int64)
    for row, item in enumerate(raw.items):
        if (problem := id_problem(item.item_id)) is not None:
            report.leave_out("items", f"the id {_kind(problem)}", raw.item_place(row))
        elif item.item_id in first:
            row_of[row] = first[item.item_id]
            report.change("items", "their id is that of an earlier item: they are one", raw.item_place(row))
        else:
            row_of[row] = first[item.item_id] = len(first)
    return row_of


def _kept_items(raw: RawData, row_of: NDArray[np.int64]) -> tuple[Item, ...]:
    kept: dict[int, Item] = {}
    for row, item in zip(row_of.tolist(), raw.items, strict=True):
        if row != GONE:
            kept.setdefault(row, item)
    return tuple(kept.values())


def _kept_users(raw: RawData, report: ReadingReport) -> NDArray[np.bool_]:
    seen: set[str] = set()
    kept = np.ones(len(raw.users), dtype=np.bool_)
    for position, user in enumerate(raw.users):
        problem = id_problem(user)
        if problem is None and user not in seen:
            seen.add(user)
            continue
        kept[position] = False
        reason = "their id is that of an earlier user" if problem is None else f"the id {_kind(problem)}"
        report.leave_out("users", reason, raw.user_place(position))
    return kept


def _kind(problem: str) -> str:
    """Cuts the numbers out of a sentence about an id, so that equal faults are counted together."""
    return "has too many characters" if problem.startswith("has ") else problem


def _count_interactions(
    raw: RawData, report: ReadingReport, which: NDArray[np.bool_], user_of: NDArray[np.int64], reason: str
) -> None:
    if which.any():
        place = raw.user_place(int(user_of[np.argmax(which)]))
        report.leave_out("interactions", reason, place, int(which.sum()))


def _moved_captions(
    captions: Mapping[str, Mapping[int, str]], row_of: NDArray[np.int64]
) -> dict[str, dict[int, str]]:
    moved: dict[str, dict[int, str]] = {}
    for captioner, by_row in captions.items():
        for row, caption in by_row.items():
            if row_of[row] != GONE:
                moved.setdefault(captioner, {}).setdefault(int(row_of[row]), caption)
    return moved


def _moved_negatives(
    negatives: Mapping[int, Rows] | None, row_of: NDArray[np.int64], position_of: NDArray[np.int64]
) -> dict[int, Rows] | None:
    if negatives is None:
        return None
    return {
        int(position_of[user]): (new := row_of[rows])[new != GONE].astype(np.int32)
        for user, rows in negatives.items()
        if position_of[user] != GONE
    }
