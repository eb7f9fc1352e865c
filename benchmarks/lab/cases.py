"""Makes the requests of the leave-one-out test: history, target and candidates of each test user."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.errors import BenchmarkError
from models.data.dataset import Rows
from models.errors import EvaluationError
from models.evaluation import EvaluationProtocol, cohort, leave_one_out, sample_candidates
from service.catalogue.bundle import Catalogue

LONGEST_HISTORY = 2000
"""Number of items in a request's ``history`` at most, the service's limit; older ones are left out."""


@dataclass(frozen=True, slots=True)
class Case:
    """One user of the test part.

    Attributes:
        user: position of the user in the catalogue, from 0, which is also a part of the negatives' seed.
        user_id: public id of the user.
        history: item ids before the target, oldest first, at most ``LONGEST_HISTORY``.
        target: item id of the right answer; it is sent only as one of the candidates.
        candidates: item ids of the target and the negatives, sorted, so that the target has no fixed place.
    """

    user: int
    user_id: str
    history: tuple[str, ...]
    target: str
    candidates: tuple[str, ...]


class Cohort:
    """Test users of a catalogue, all or a seeded sample, with the candidates that training evaluates on."""

    def __init__(
        self, catalogue: Catalogue, protocol: EvaluationProtocol, users: int | None, seed: int
    ) -> None:
        """Chooses the users.

        Args:
            catalogue: items and histories of an open bundle.
            protocol: number and seed of the negatives.
            users: size of the cohort, at least 1; None for every user with a test item.
            seed: seed of the choice of users.

        Raises:
            BenchmarkError: no user has the three items that a test needs.
        """
        histories = catalogue.histories
        self._catalogue = catalogue
        self._protocol = protocol
        self._users = tuple(histories.users)
        # An array of item rows per user. The offsets begin with 0 and end with the total, which split() adds.
        self._histories: list[Rows] = np.split(histories.item_rows, histories.offsets[1:-1])
        examples = leave_one_out(self._histories).test  # users with three items or more
        if not examples:
            raise BenchmarkError("no user of this bundle has three interactions: there is nothing to replay")
        # The cases come in the order of the examples, not in that of the sample.
        chosen = {example.user for example in examples}
        if users is not None:
            chosen = set(cohort(sorted(chosen), users, seed).tolist())
        self._examples = [example for example in examples if example.user in chosen]

    def __len__(self) -> int:
        return len(self._examples)

    def __iter__(self) -> Iterator[Case]:
        """Yields the cases in the order of the users.

        Raises:
            BenchmarkError: a user has seen too much of the catalogue to draw the negatives.
        """
        items, n_items = self._catalogue.items, len(self._catalogue.items)
        for example in self._examples:
            # All of the user's items: a negative must be none of them, also not the validation item.
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
                # sample_candidates puts the target first, where an LVLM would find it.
                candidates=tuple(sorted(items[row].item_id for row in rows)),
            )
