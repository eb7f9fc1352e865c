"""Measures the two recommenders of every table that ignore the user: Random and Pop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.data.dataset import Dataset, Rows
from models.evaluation import (
    EVERYONE,
    PADDING,
    CandidateSource,
    CohortChoice,
    ScoreFunction,
    candidate_matrix,
    evaluate,
    leave_one_out,
    popularity,
    sampled_metrics_or_none,
)


class Random:
    """Draws scores from a seeded generator: the metrics that chance alone reaches."""

    def __init__(self, seed: int = 2024) -> None:
        self._generator = np.random.default_rng(seed)

    def score(self, history_rows: Sequence[Rows], candidate_rows: NDArray[np.int32]) -> NDArray[np.float64]:
        """Draws a score per candidate.

        Args:
            history_rows: histories [users], not read.
            candidate_rows: item rows int32 [users, n].

        Returns:
            float64 [users, n], uniform in [0, 1).
        """
        return self._generator.random(candidate_rows.shape)  # continuous, so ties do not occur


class Pop:
    """Ranks by the number of interactions in the training part."""

    def __init__(self, popularity: NDArray[np.int64]) -> None:
        """Takes the counts int64 [items] of ``evaluation.popularity``."""
        self._popularity = popularity

    def score(self, history_rows: Sequence[Rows], candidate_rows: NDArray[np.int32]) -> NDArray[np.int64]:
        """Looks the counts of candidates up.

        Args:
            history_rows: histories [users], not read.
            candidate_rows: item rows int32 [users, n].

        Returns:
            int64 [users, n]; -1, which is below every count, for a candidate that is ``PADDING``.
        """
        there = candidate_rows != PADDING
        return np.where(there, self._popularity[np.where(there, candidate_rows, 0)], -1)


def baseline_metrics(
    dataset: Dataset, source: CandidateSource, cohort: CohortChoice = EVERYONE
) -> dict[str, dict[str, float | None]]:
    """Computes H@1, H@5 and N@5 of Random and Pop on the test part, as shares of one.

    They are measured on the users and candidates that networks are measured on. None where no user has
    candidates.
    """
    members = cohort.choose(leave_one_out(dataset.histories).test, source).members
    test = [example for example in members if source.offers(example)]
    candidates = candidate_matrix(test, source)
    scores: dict[str, ScoreFunction] = {
        "Random": Random().score,
        "Pop": Pop(popularity(dataset.histories, len(dataset.items))).score,
    }
    return {
        name: sampled_metrics_or_none(evaluate(score, test, candidates)) for name, score in scores.items()
    }
