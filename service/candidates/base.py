"""Defines the interface of a candidate model, whatever its family, and how the best rows are found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.contracts import BackboneManifest


class CandidateModel(ABC):
    """Ranks items for a user or a history; safe to call from several threads at once.

    In all methods ``user`` is the user's position in the bundle's histories, or None for a user who is not in
    them, and ``history`` are item rows, oldest first.
    """

    @property
    @abstractmethod
    def manifest(self) -> BackboneManifest:
        """What the model is and how it was trained."""

    def knows(self, user: int | None) -> bool:
        """Returns whether the model can recommend to this user without a history."""
        return False

    def warnings(self, user: int | None) -> tuple[str, ...]:
        """Returns the warnings that an answer to this user carries, none by default."""
        return ()

    @abstractmethod
    def top(
        self, user: int | None, history: Sequence[int], k: int, exclude: Sequence[int]
    ) -> tuple[list[int], list[float]]:
        """Ranks the catalogue without ``exclude``.

        Returns:
            The k best item rows, best first, and their scores; fewer if fewer exist. Equal scores stand in
            the order of their rows. An item whose score is infinite or NaN is never among them.
        """

    @abstractmethod
    def score(self, user: int | None, history: Sequence[int], rows: Sequence[int]) -> list[float]:
        """Scores the given item rows, in their order; the scores are those of ``top``."""


def best_rows(
    scores: NDArray[np.float32] | NDArray[np.float64], k: int, exclude: Sequence[int]
) -> tuple[list[int], list[float]]:
    """Finds the k highest of all scores and their rows, as ``CandidateModel.top`` promises.

    Args:
        scores: one score per item [items]; overwritten where excluded.
        k: number of rows, at least 1.
        exclude: item rows to leave out.
    """
    if exclude:  # in place: a copy of all scores would cost as much as the selection
        scores[np.asarray(exclude)] = -np.inf
    k = min(k, len(scores))
    # A selection in linear time, then a sort of k items alone; of equal scores at the edge any is selected.
    best = np.argpartition(scores, len(scores) - k)[len(scores) - k :]
    best = best[np.lexsort((best, -scores[best]))]
    best = best[np.isfinite(scores[best])]  # drops excluded rows and NaN
    return best.tolist(), scores[best].tolist()
