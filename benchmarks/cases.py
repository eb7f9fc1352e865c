"""The questions of the leave-one-out test, as a client of the service asks them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.errors import BenchmarkError
from models.data.dataset import Rows
from models.errors import EvaluationError
from models.evaluation import EvaluationProtocol, cohort, leave_one_out, sample_candidates
from service.bundle import Catalogue

LONGEST_HISTORY = 2000
"""The contract's bound on ``history``; a model reads far fewer."""


@dataclass(frozen=True, slots=True)
class Case:
    """One user of the test part.

    Attributes:
        user: position in the catalogue, which also seeds the negatives.
        history: item ids before the target, oldest first.
        target: item id of the answer; it is never sent as such.
        candidates: item ids of the target and the negatives, sorted, so that their order says nothing.
    """

    user: int
    user_id: str
    history: tuple[str, ...]
    target: str
    candidates: tuple[str, ...]


class Cohort:
    """Test users of a catalogue, all or a seeded sample, with the same candidates as in training."""

    def __init__(
        self, catalogue: Catalogue, protocol: EvaluationProtocol, users: int | None, seed: int
    ) -> None:
        """Choose the users.

        Args:
            catalogue: of an open bundle.
            protocol: how candidates are drawn.
            users: size of the cohort; None for every user with a test item.
            seed: of the cohort.

        Raises:
            BenchmarkError: no user has the three items that a test needs.
        """
        histories = catalogue.histories
        self._catalogue = catalogue
        self._protocol = protocol
        self._users = tuple(histories.users)
        self._histories: list[Rows] = np.split(histories.item_rows, histories.offsets[1:-1])
        examples = leave_one_out(self._histories).test
        if not examples:
            raise BenchmarkError("no user of this bundle has three interactions: there is nothing to replay")
        chosen = {example.user for example in examples}
        if users is not None:
            chosen = set(cohort(sorted(chosen), users, seed).tolist())
        self._examples = [example for example in examples if example.user in chosen]

    def __len__(self) -> int:
        return len(self._examples)

    def __iter__(self) -> Iterator[Case]:
        """The cases in the order of the users.

        Raises:
            BenchmarkError: a user has seen too much of the catalogue to draw the negatives.
        """
        items, n_items = self._catalogue.items, len(self._catalogue.items)
        for example in self._examples:
            seen = self._histories[example.user]
            try:
                rows = sample_candidates(seen, example.target, n_items, self._protocol, example.user)
            except EvaluationError as error:
                raise BenchmarkError(str(error)) from error
            yield Case(
                user=example.user,
                user_id=self._users[example.user],
                history=tuple(items[row].item_id for row in example.history[-LONGEST_HISTORY:]),
                target=items[example.target].item_id,
                candidates=tuple(sorted(items[row].item_id for row in rows)),
            )
