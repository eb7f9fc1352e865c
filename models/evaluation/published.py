"""Ranks a test target among the negatives that the authors of a data set published with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.data.dataset import Rows
from models.errors import EvaluationError
from models.evaluation.split import Example

PUBLISHED = "published"
NEGATIVES = 29
"""Number of negatives per user; a user with another number is left out."""


@dataclass(frozen=True)
class PublishedCandidates:
    """Takes the negatives of ``Dataset.negatives``, which belong to the test target.

    A user is left out whose negatives are not exactly 29 different items of the catalogue, none of which the
    user takes: the target would be ranked in another task under the same name.

    Attributes:
        negatives: item rows by user position; -1 for an item that the catalogue lacks.
        histories: complete histories by user position.
        n_items: size of the catalogue.
    """

    negatives: Mapping[int, Rows]
    histories: Sequence[Rows]
    n_items: int

    @property
    def name(self) -> str:
        """``published``."""
        return PUBLISHED

    @property
    def missing(self) -> str:
        """What a user lacks whose published negatives cannot be used."""
        return f"{NEGATIVES} usable published negatives"

    def offers(self, example: Example) -> bool:
        """Returns whether the user has exactly 29 negatives that can be used."""
        rows = self.negatives.get(example.user)
        if rows is None or len(rows) != NEGATIVES:
            return False
        negatives = set(rows.tolist())
        known = min(negatives) >= 0 and max(negatives) < self.n_items
        taken = {example.target, *self.histories[example.user].tolist()}
        return known and len(negatives) == NEGATIVES and not negatives & taken

    def candidates(self, example: Example) -> Rows:
        """Returns the target and the user's negatives, int32 [1 + 29].

        Raises:
            EvaluationError: the user has no 29 negatives that can be used.
        """
        if not self.offers(example):
            raise EvaluationError(f"user {example.user} has no {self.missing}: leave the user out")
        return np.array([example.target, *self.negatives[example.user].tolist()], dtype=np.int32)

    def to_json(self) -> dict[str, Any]:
        """Returns the rules of the choice."""
        return {
            "candidates": PUBLISHED,
            "negatives": NEGATIVES,
            "split": "leave-one-out",
            "sampler": "published with the data set",
            "ties": "against the target",
        }
