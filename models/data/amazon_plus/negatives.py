"""Reads the sampled negatives that come with a data set, ``negative_samples`` as lines, JSON or a pickle."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np

from models.data.amazon_plus.files import read_json
from models.data.amazon_plus.histories import Histories, Lists, not_as_many, plain_lists, text_lists
from models.data.amazon_plus.ids import DATAMAPS, UNKNOWN, IdMap
from models.data.dataset import Rows
from models.data.plain_pickle import load_plain_pickle
from models.data.report import ReadingReport

log = logging.getLogger(__name__)

STEM = "negative_samples"
ENDINGS = (".txt", ".csv", ".tsv", ".json", ".pkl")
"""Endings of the file, in the order in which they are looked for."""


def read_negatives(
    folder: Path, ours: Histories, users: IdMap, items: IdMap, report: ReadingReport
) -> dict[int, Rows] | None:
    """Reads item rows by position of the history; None without a file.

    Lines begin with the user's id; without ids the lists are in the order of the users. Unknown users and
    items are left out and counted.

    Raises:
        DataError: the file cannot be read, or most of its ids are unknown.
    """
    found = [path for ending in ENDINGS if (path := folder / f"{STEM}{ending}").is_file()]
    if not found:
        return None
    path = found[0]
    for other in found[1:]:
        log.warning("%s is not read: %s has negatives already", other.name, path.name)
    if not path.stat().st_size:
        report.change("files", "they are empty: not read", path.name)
        return None
    if path.suffix in (".json", ".pkl"):
        value = load_plain_pickle(path) if path.suffix == ".pkl" else read_json(path, report)
        lists = _with_users(plain_lists(value, path, report), ours, users)
    else:
        lists = text_lists(path, report)
    return _by_history(lists, ours, users, items, report)


def _with_users(lists: Lists, ours: Histories, users: IdMap) -> Lists:
    """Gives lists without ids of users theirs: the first word of each, or else those of the histories."""
    if lists.users is not None:
        return lists
    in_file = list(dict.fromkeys(ours.users))
    order: Sequence[int] = in_file if len(in_file) == len(lists.lengths) else range(len(users))
    starts = [0, *accumulate(lists.lengths)]
    words = [lists.items[at] if length else "" for at, length in zip(starts, lists.lengths, strict=False)]
    named = sum(
        word in (users.internal[user], users.public[user]) for word, user in zip(words, order, strict=False)
    )
    if 10 * named >= 9 * len(words):
        first = set(starts[:-1])
        return replace(
            lists,
            users=words,
            lengths=[max(0, length - 1) for length in lists.lengths],
            items=[item for at, item in enumerate(lists.items) if at not in first],
        )
    if len(order) != len(lists.lengths):
        raise not_as_many(lists, len(users))
    return replace(lists, users=[users.internal[user] for user in order])


def _by_history(
    lists: Lists, ours: Histories, users: IdMap, items: IdMap, report: ReadingReport
) -> dict[int, Rows]:
    position = {user: at for at, user in reversed(list(enumerate(ours.users)))}
    user_numbers = users.numbers(lists.users or (), lists.source, first="public").tolist()
    rows = items.numbers(lists.items, lists.source, first="public").tolist()
    if lists.is_cut and lists.lengths[-1] and rows[-1] == UNKNOWN:
        place = lists.place(len(lists.lengths) - 1)
        report.change("negatives", "the last word of a file without an end is cut: left out", place)
        rows, lists = rows[:-1], replace(lists, lengths=[*lists.lengths[:-1], lists.lengths[-1] - 1])
    report.read("lists of negatives", len(lists.lengths))
    report.read("negatives", len(rows))
    negatives: dict[int, Rows] = {}
    end = 0
    for at, (user, length) in enumerate(zip(user_numbers, lists.lengths, strict=True)):
        start, end = end, end + length
        history = position.get(user)
        if history is None:
            report.leave_out("lists of negatives", "their user has no history", lists.place(at))
        elif history in negatives:
            report.leave_out("lists of negatives", "their user has a list already", lists.place(at))
        else:
            known = [row for row in rows[start:end] if row != UNKNOWN]
            if unknown := length - len(known):
                report.leave_out("negatives", f"{DATAMAPS} lacks their item", lists.place(at), unknown)
            negatives[history] = np.array(known, dtype=np.int32)
    return negatives
