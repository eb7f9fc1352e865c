"""Reads whom the paper's authors asked their LVLMs about, and which candidates they showed.

The file holds ``{category: {user: {"target": item, "candidates": [item or null, …]}}}`` with the internal ids
of Amazon Review Plus. It is made of the answers that the authors released (PALIN2018/MRecBench): about 400
users of each category, with candidates where their titles could be traced back to items, and null for a title
that could not.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contracts.json_objects import parse_object
from models.contracts.limits import borne
from models.data import amazon_plus
from models.data.dataset import Dataset, Rows
from models.errors import DataError, EvaluationError
from models.evaluation.candidates import PADDING, CandidateSource
from models.evaluation.cohort import Chosen
from models.evaluation.split import Example

log = logging.getLogger(__name__)

AUTHORS = "authors"
"""Name of the cohort and of the source of candidates."""

NEGATIVES = 29
"""Number of candidates beside the target that the authors showed."""

MOST_BYTES = 64 << 20
"""Bytes of the file at most, a hundred times those of the authors' 1,599 users."""

FILE = (
    "JSON, {category: {user: {target, candidates}}} with the internal ids of the data set, made of the "
    "answers that the paper's authors released (https://github.com/PALIN2018/MRecBench)"
)
"""Description of the file, for messages."""

_Asked = tuple[str, str, list[str | None] | None]
"""Internal ids of a user, the target, and the candidates in the order shown; None without candidates."""


@dataclass(frozen=True)
class AuthorsCohort:
    """The authors' users, found in a data set or a bundle.

    Attributes:
        users: positions of the users, int64 [users], ascending.
        shown: item rows in the order shown, by position of the user; ``PADDING`` for a title without an item.
            Empty where the file has no candidates of this category.
        left_out: number of the authors' users who are not here, or have another test item.
    """

    users: NDArray[np.int64]
    shown: Mapping[int, Rows]
    left_out: int = 0

    @property
    def name(self) -> str:
        """``authors``."""
        return AUTHORS

    def choose(self, test: Sequence[Example], source: CandidateSource) -> Chosen:
        """Returns the examples of the authors' users."""
        theirs = set(self.users.tolist())
        members = [example for example in test if example.user in theirs]
        return Chosen(members, sum(not source.offers(example) for example in members))

    def to_json(self) -> dict[str, Any]:
        """Returns the numbers of users here and left out: who they are stands in the authors' file."""
        return {"name": AUTHORS, "users": len(self.users), "left_out": self.left_out}

    def check_users(self, wanted: int | str | None) -> None:
        """Refuses a ``--users`` that contradicts the cohort; None where the option is not given.

        Raises:
            DataError: it is another number than that of the authors' users.
        """
        if wanted not in (None, len(self.users), len(self.users) + self.left_out):
            raise DataError(
                f"--cohort authors is a choice of {len(self.users)} users and --users {wanted} is another "
                "one: leave one of the two out"
            )

    def candidates(self) -> AuthorsCandidates:
        """Returns the candidates that the authors showed.

        Raises:
            DataError: the file has none of this category.
        """
        if not self.shown:
            raise DataError(
                "the file of --authors has no candidates of this category: leave --candidates authors out"
            )
        return AuthorsCandidates(self.shown)


@dataclass(frozen=True)
class AuthorsCandidates:
    """Takes the candidates that the authors showed an LVLM, which belong to the test target.

    Candidates without an item are left out, and the target is ranked among the others.

    Attributes:
        shown: as in ``AuthorsCohort``.
    """

    shown: Mapping[int, Rows]

    @property
    def name(self) -> str:
        """``authors``."""
        return AUTHORS

    @property
    def missing(self) -> str:
        """What a user lacks whom the authors did not ask about."""
        return "candidates of the paper's authors"

    def offers(self, example: Example) -> bool:
        """Returns whether the authors showed the target to be ranked."""
        rows = self.shown.get(example.user)
        return rows is not None and example.target in rows

    def candidates(self, example: Example) -> Rows:
        """Returns the target, then the others in the order shown: int32 [at most 1 + 29].

        Raises:
            EvaluationError: the authors showed the user no candidates with this target.
        """
        if not self.offers(example):
            raise EvaluationError(f"user {example.user} has no {self.missing}: leave the user out")
        rows = dict.fromkeys([example.target, *self.shown[example.user].tolist()])
        return np.array([row for row in rows if row != PADDING], dtype=np.int32)

    def to_json(self) -> dict[str, Any]:
        """Returns the rules of the choice."""
        return {
            "candidates": AUTHORS,
            "negatives": NEGATIVES,
            "split": "leave-one-out",
            "sampler": "shown by the paper's authors; titles without an item are left out",
            "ties": "against the target",
        }


def dataset_authors(dataset: Dataset, folder: Path, file: Path | None) -> AuthorsCohort:
    """Finds the authors' users and candidates in a data set that was read from a folder.

    Raises:
        DataError: as ``authors_cohort``.
    """
    users = {user: at for at, user in enumerate(dataset.users)}
    rows = {item.item_id: row for row, item in enumerate(dataset.items)}
    return authors_cohort(file, dataset.name, folder, users, rows, dataset.histories)


def authors_cohort(
    file: Path | None,
    category: str,
    folder: Path,
    users: Mapping[str, int],
    rows: Mapping[str, int],
    histories: Sequence[Rows],
) -> AuthorsCohort:
    """Finds the authors' users and candidates among the users and items of a data set or a bundle.

    A user who is not there, or whose last item is not the authors' target, is left out and counted: the
    figures would be those of another task.

    Args:
        file: file of the authors' users; None where none is given.
        category: category of the file, the name of the data set.
        folder: folder of the data set, whose ``datamaps.json`` says which public id an internal one has.
        users: position by public user id.
        rows: row by public item id.
        histories: complete histories by user position.

    Raises:
        DataError: there is no file, it cannot be read or lacks the category, the folder has no internal ids,
            or too many users would be left out (``models.contracts.limits``).
    """
    asked = list(_read(file, category))
    user_of, item_of = amazon_plus.public_ids(folder)
    found: list[int] = []
    shown: dict[int, Rows] = {}
    others: list[str] = []
    for user, target, candidates in asked:
        position = users.get(user_of.get(user, ""))
        row = rows.get(item_of.get(target, ""))
        if position is None or row is None or not _is_test_item(histories[position], row):
            others.append(user)
            continue
        found.append(position)
        if candidates is not None:
            ids = [None if item is None else item_of.get(item) for item in candidates]
            known = [PADDING if item is None else rows.get(item, PADDING) for item in ids]
            shown[position] = np.array(known, dtype=np.int32)
    if len(others) > borne(len(asked)):
        raise DataError(
            f"{len(others):,} of the {len(asked):,} users whom the paper's authors asked about {category} "
            f"are not in {folder}, or have another last item there (first: user {others[0][:80]}): it is "
            "another version of the data set, or was split otherwise"
        )
    if others:
        log.warning(
            "left out of the users of the paper's authors: %d, not here or with another last item",
            len(others),
        )
    return AuthorsCohort(np.unique(np.array(found, dtype=np.int64)), shown, len(others))


def _is_test_item(history: Rows, row: int) -> bool:
    return len(history) >= 3 and int(history[-1]) == row


def _read(file: Path | None, category: str) -> Iterator[_Asked]:
    """Reads the authors' users of one category.

    Raises:
        DataError: see ``authors_cohort``.
    """
    if file is None:
        raise DataError(f"pass --authors FILE to say whom the paper's authors asked: {FILE}")
    try:
        with file.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise DataError(f"--authors {file} has more than {MOST_BYTES:,} bytes: it must be {FILE}")
        categories = parse_object(content)
    except OSError as error:
        raise DataError(f"--authors {file} cannot be read ({error.strerror}): it is {FILE}") from error
    except ValueError as error:
        raise DataError(f"--authors {file}: {error}, and must be {FILE}") from error
    if category not in categories:
        raise DataError(
            f"{file} has no category {category!r}, only {', '.join(categories)[:200]}: the name of the data "
            "set says which to read"
        )
    users = categories[category]
    if not isinstance(users, dict) or not users:
        raise DataError(f"{file}: {category} is no object of users: it must be {FILE}")
    for user, record in users.items():
        yield user, *_checked(file, user, record)


def _checked(file: Path, user: str, record: Any) -> tuple[str, list[str | None] | None]:
    match record:
        case {"target": str(target), "candidates": list(candidates)}:
            if len(candidates) <= 1 + NEGATIVES and all(isinstance(each, str | None) for each in candidates):
                return target, candidates
        case {"target": str(target)} if record.get("candidates") is None:
            return target, None
    raise DataError(
        f"{file}: user {user[:80]} must have a target and at most {1 + NEGATIVES} candidates, ids or null"
    )
