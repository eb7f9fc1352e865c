"""Ranks the test targets of a data set in several tasks, whose candidates are drawn once for all models."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.data.dataset import Dataset
from models.evaluation import (
    AuthorsCohort,
    CandidateSource,
    DrawnCandidates,
    EvaluationProtocol,
    Example,
    candidate_matrix,
    cohort,
    evaluate,
    evaluate_full,
    full_metrics,
    leave_one_out,
    sampled_metrics_or_none,
)
from models.training.baselines import Baseline
from models.training.scoring import Scorer, full_ranks, sampled_ranks

DRAWN_29, DRAWN_99, FULL, AUTHORS = "1 + 29", "1 + 99", "full", "authors"
"""Tasks: among 29 and 99 drawn items, among the whole catalogue without the history, and among the candidates
that the paper's authors showed."""

Ranks = NDArray[np.int32]
"""Ranks of all test targets in one task, int32 [examples], 1 is best; 0 for a user who has no candidates."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates of one task.

    Attributes:
        at: positions of the examples that have candidates, int64 [n].
        rows: their candidates, int32 [n, 1 + negatives], the target first.
        protocol: how they were chosen.
    """

    at: NDArray[np.int64]
    rows: NDArray[np.int32]
    protocol: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Targets:
    """The test part of a data set.

    Attributes:
        examples: one example per user with a test item.
        items: size of the catalogue.
        candidates: candidates by task; the whole catalogue needs none.
        sample: whether the user of an example is of the seeded 400, bool [examples].
        authors: whether the user of an example is of the authors' users, bool [examples]; None without them.
        left_out: number of the authors' users who are not in the data set.
    """

    examples: list[Example]
    items: int
    candidates: dict[str, Candidates]
    sample: NDArray[np.bool_]
    authors: NDArray[np.bool_] | None
    left_out: int

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names all tasks."""
        return (*self.candidates, FULL)

    def key(self, task: str) -> str:
        """Hashes what a task asks, so that ranks of another one are not taken for its own."""
        digest = hashlib.sha256(task.encode())
        asked = [(example.user, example.target, len(example.history)) for example in self.examples]
        digest.update(np.array(asked, dtype="<i8").tobytes())
        if task in self.candidates:
            digest.update(self.candidates[task].at.astype("<i8").tobytes())
            digest.update(self.candidates[task].rows.astype("<i4").tobytes())
        return digest.hexdigest()

    def rank(self, scorer: Scorer, tasks: Iterable[str]) -> dict[str, Ranks]:
        """Ranks the targets with a trained network."""
        return self._rank(
            tasks,
            lambda examples, rows: sampled_ranks(scorer, examples, rows),
            lambda: full_ranks(scorer, self.examples),
        )

    def rank_baseline(self, baseline: Baseline, tasks: Iterable[str]) -> dict[str, Ranks]:
        """Ranks the targets with Random or Pop."""
        score, ties = baseline.score, baseline.ties
        return self._rank(
            tasks,
            lambda examples, rows: evaluate(score, examples, rows, ties=ties),
            lambda: evaluate_full(score, self.examples, self.items, ties=ties),
        )

    def figures(self, ranks: Mapping[str, Ranks], task: str) -> dict[str, Any]:
        """Computes the figures of a task over candidates, as ``training.scoring.metrics`` does."""
        among = ranks[task][ranks[task] > 0]
        return {
            **sampled_metrics_or_none(among),
            "sampled_users": len(among),
            "protocol": self.candidates[task].protocol,
            "full": full_metrics(ranks[FULL]),
            "users": len(self.examples),
        }

    def _rank(
        self,
        tasks: Iterable[str],
        among: Callable[[list[Example], NDArray[np.int32]], NDArray[np.int64]],
        among_all: Callable[[], NDArray[np.int64]],
    ) -> dict[str, Ranks]:
        ranks: dict[str, Ranks] = {}
        for task in tasks:
            if task == FULL:
                ranks[task] = among_all().astype(np.int32)
                continue
            asked = self.candidates[task]
            ranks[task] = np.zeros(len(self.examples), dtype=np.int32)
            ranks[task][asked.at] = among([self.examples[at] for at in asked.at.tolist()], asked.rows)
        return ranks


def targets_of(dataset: Dataset, authors: AuthorsCohort | None) -> Targets:
    """Draws the candidates of the test part of a data set.

    Args:
        dataset: items and complete histories.
        authors: whom the paper's authors asked about; None where that is not known.
    """
    examples = list(leave_one_out(dataset.histories).test)
    users = np.array([example.user for example in examples], dtype=np.int64)
    sources: dict[str, CandidateSource] = {
        task: DrawnCandidates(dataset.histories, len(dataset.items), EvaluationProtocol(negatives=negatives))
        for task, negatives in ((DRAWN_29, 29), (DRAWN_99, 99))
    }
    if authors is not None and authors.shown:
        sources[AUTHORS] = authors.candidates()
    candidates = {task: _candidates(examples, source) for task, source in sources.items()}
    return Targets(
        examples,
        len(dataset.items),
        candidates,
        np.isin(users, cohort(users[candidates[DRAWN_29].at])),
        None if authors is None else np.isin(users, authors.users),
        0 if authors is None else authors.left_out,
    )


def _candidates(examples: list[Example], source: CandidateSource) -> Candidates:
    at = [number for number, example in enumerate(examples) if source.offers(example)]
    rows = candidate_matrix([examples[number] for number in at], source)
    return Candidates(np.array(at, dtype=np.int64), rows, source.to_json())
