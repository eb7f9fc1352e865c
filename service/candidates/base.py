"""What the service needs of a candidate model, whatever its family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.contracts import BackboneManifest


class CandidateModel(Protocol):
    """A recommender as the service uses it: safe to call from several threads at once.

    ``user`` is the user's position in the bundle's histories, None for everyone else; ``history`` are item
    rows, oldest first.
    """

    @property
    def manifest(self) -> BackboneManifest:
        """What the model is and how it was trained."""
        ...

    def knows(self, user: int | None) -> bool:
        """Whether the model can recommend to this user without a history."""
        ...

    def warnings(self, user: int | None) -> tuple[str, ...]:
        """What the answer has to say about how this user's items are ranked."""
        ...

    def top(
        self, user: int | None, history: Sequence[int], k: int, exclude: Sequence[int]
    ) -> tuple[list[int], list[float]]:
        """The k best item rows outside ``exclude``, best first, and their scores; fewer if fewer exist.

        Equal scores stand in the order of their rows; an item whose score is not a number never comes.
        """
        ...

    def score(self, user: int | None, history: Sequence[int], rows: Sequence[int]) -> list[float]:
        """The scores of the given item rows, in their order; the same as in ``top``."""
        ...


def best_rows(
    scores: NDArray[np.float32] | NDArray[np.float64], k: int, exclude: Sequence[int]
) -> tuple[list[int], list[float]]:
    """The k highest of all scores and their rows, as ``CandidateModel.top`` promises.

    Args:
        scores: [items]; overwritten where excluded.
        k: at least 1.
        exclude: rows to leave out.
    """
    if exclude:
        scores[np.asarray(exclude)] = -np.inf
    k = min(k, len(scores))
    best = np.argpartition(scores, len(scores) - k)[len(scores) - k :]
    best = best[np.lexsort((best, -scores[best]))]
    best = best[np.isfinite(scores[best])]
    return best.tolist(), scores[best].tolist()
