"""Measures the two recommenders of every table that ignore the user: Random and Pop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.data.dataset import Dataset
from models.evaluation import (
    EVERYONE,
    PADDING,
    CandidateSource,
    CohortChoice,
    Example,
    ScoreFunction,
    Ties,
    candidate_matrix,
    evaluate,
    leave_one_out,
    popularity,
    sampled_metrics_or_none,
)


class Random:
    """Draws scores from a generator seeded per user: the metrics that chance alone reaches."""

    def __init__(self, seed: int = 2024) -> None:
        self._seed = seed

    def score(self, examples: Sequence[Example], candidate_rows: NDArray[np.int32]) -> NDArray[np.float64]:
        """Draws a score per candidate, the same for the same user in any order of calls.

        Args:
            examples: examples [users], of whom only the user is read.
            candidate_rows: item rows int32 [users, n].

        Returns:
            float64 [users, n], uniform in [0, 1).
        """
        n = candidate_rows.shape[1]
        draws = [np.random.default_rng((self._seed, example.user)).random(n) for example in examples]
        return np.array(draws).reshape(len(examples), n)  # continuous, so ties do not occur


class Pop:
    """Ranks by the number of interactions that precede the test part, or the training part alone."""

    def __init__(self, popularity: NDArray[np.int64]) -> None:
        """Takes the counts int64 [items] of ``evaluation.popularity``."""
        self._popularity = popularity

    def score(self, examples: Sequence[Example], candidate_rows: NDArray[np.int32]) -> NDArray[np.int64]:
        """Looks the counts of candidates up.

        Args:
            examples: examples [users], not read.
            candidate_rows: item rows int32 [users, n].

        Returns:
            int64 [users, n]; -1, which is below every count, for a candidate that is ``PADDING``.
        """
        there = candidate_rows != PADDING
        return np.where(there, self._popularity[np.where(there, candidate_rows, 0)], -1)


@dataclass(frozen=True, slots=True)
class Baseline:
    """A recommender that is not trained, and how its ties are counted.

    Attributes:
        score: function to score candidates with.
        ties: side that a candidate with the target's score takes.
    """

    score: ScoreFunction
    ties: Ties


def baselines(dataset: Dataset, form: Literal["ours", "paper"] = "ours") -> dict[str, Baseline]:
    """Makes Random and Pop in one of two forms.

    Args:
        dataset: items and complete histories.
        form: ``ours`` counts the training part and ties against the target, as for every other recommender
            here. ``paper`` counts training and validation, ties for the target: so computed, Pop's row of
            Table 1 is met within one user (MSRBench, Zhou et al., WWW 2025, whose text does not say it).
    """
    counts = popularity(dataset.histories, len(dataset.items), with_validation=form == "paper")
    ties: Ties = "for" if form == "paper" else "against"
    return {"Random": Baseline(Random().score, ties), "Pop": Baseline(Pop(counts).score, ties)}


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
    return {
        name: sampled_metrics_or_none(evaluate(each.score, test, candidates, ties=each.ties))
        for name, each in baselines(dataset).items()
    }
