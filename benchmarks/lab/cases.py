"""Makes the requests of the leave-one-out test: history, target and candidates of each test user."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.errors import BenchmarkError
from models.data.dataset import Rows
from models.evaluation import CandidateSource, CohortChoice, DrawnCandidates, UniformCohort, leave_one_out
from service.catalogue.bundle import Bundle, Catalogue

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

    def whose(self, *, with_user: bool) -> dict[str, Any]:
        """Makes the part of a request's body that says whom to recommend to.

        The stored history of the user holds the target, so the request always brings its own, which takes
        its place; the user selects a vector then, and nothing else.

        Args:
            with_user: whether the backbone has vectors of users (``vectors_of_users``).
        """
        return {**({"user_id": self.user_id} if with_user else {}), "history": list(self.history)}


def vectors_of_users(bundle: Bundle) -> frozenset[str]:
    """Returns the names of the backbones with a vector for each user: those of graph families."""
    return frozenset(name for name, backbone in bundle.backbones.items() if backbone.user_vectors is not None)


def histories_of(catalogue: Catalogue) -> list[Rows]:
    """Returns the complete histories of a catalogue, by user position."""
    histories = catalogue.histories
    # The offsets begin with 0 and end with the total, which split() adds.
    return np.split(histories.item_rows, histories.offsets[1:-1])


def drawn_candidates(catalogue: Catalogue) -> DrawnCandidates:
    """Returns the candidates that training draws by default."""
    return DrawnCandidates(histories_of(catalogue), len(catalogue.items))


class Cohort:
    """Test users of a catalogue, all or a choice of them, with the candidates that training evaluates on.

    Attributes:
        left_out: number of users without candidates, whom the cohort lacks.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        users: int | None,
        seed: int,
        source: CandidateSource | None = None,
        choice: CohortChoice | None = None,
    ) -> None:
        """Chooses the users.

        Args:
            catalogue: items and histories of an open bundle.
            users: size of the cohort, at least 1; None for every user with a test item and candidates.
            seed: seed of the choice of users.
            source: candidates of the catalogue's users; None for those that training draws by default.
            choice: another choice of users than ``users`` with ``seed``, which are not read then.

        Raises:
            BenchmarkError: no user has the three items that a test needs, or none has candidates.
        """
        self._catalogue = catalogue
        self._source = source or drawn_candidates(catalogue)
        self._users = tuple(catalogue.histories.users)
        tested = leave_one_out(histories_of(catalogue)).test  # users with three items or more
        if not tested:
            raise BenchmarkError("no user of this bundle has three interactions: there is nothing to replay")
        chosen = (choice or UniformCohort(users, seed)).choose(tested, self._source)
        self.left_out = chosen.left_out
        self._examples = [example for example in chosen.members if self._source.offers(example)]
        if not self._examples:
            raise BenchmarkError(
                f"no user of this bundle has {self._source.missing}: there is nothing to replay"
            )

    def __len__(self) -> int:
        return len(self._examples)

    def __iter__(self) -> Iterator[Case]:
        """Yields the cases in the order of the catalogue's users."""
        items = self._catalogue.items
        for example in self._examples:
            rows = self._source.candidates(example)
            yield Case(
                user=example.user,
                user_id=self._users[example.user],
                history=tuple(items[row].item_id for row in example.history[-LONGEST_HISTORY:]),
                target=items[example.target].item_id,
                # The source puts the target first, where an LVLM would find it.
                candidates=tuple(sorted(items[row].item_id for row in rows)),
            )
