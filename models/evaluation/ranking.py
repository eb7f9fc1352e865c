"""Ranks targets by scores, and averages ranks over users."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import EvaluationError
from models.evaluation.candidates import PADDING
from models.evaluation.split import Example

MISS = math.inf
"""Rank of a target that was not ranked at all: it counts as neither hit nor gain at any cutoff."""

SAMPLED = ("H@1", "H@5", "N@5")
"""Metrics of ranks among 1 + 29 candidates, in the order of tables."""

FULL = ("H@10", "N@10")
"""Metrics of ranks over the whole catalogue, in the order of tables."""

Ties = Literal["against", "for"]
"""Side that a candidate with the target's score takes: above the target (``against``), or below."""

ScoreFunction = Callable[[Sequence[Example], NDArray[np.int32]], NDArray[np.floating[Any] | np.integer[Any]]]
"""Function of examples [users] and candidates int32 [users, n] to scores [users, n], higher is better.
It reads users and histories, no target. The score of a candidate that is ``PADDING`` counts for nothing."""


def rank_of_target(
    scores: ArrayLike, candidates: ArrayLike | None = None, ties: Ties = "against"
) -> NDArray[np.int64]:
    """Ranks the target, whose score comes first, among all candidates.

    A tie counts against the target unless ``ties`` says otherwise. NaN in either score always does, since
    every comparison with NaN is false: a model that answers NaN gets the worst rank.

    Args:
        scores: array [..., n], the target's score in column 0, higher is better.
        candidates: item rows [..., n] that have these scores; those that are ``PADDING`` are no rivals,
            whatever their score. None where there is no padding.
        ties: side that a candidate with the target's score takes.

    Returns:
        int64 [...], 1 is best and n, without padding, is worst.
    """
    scores = np.asarray(scores)
    above = _above(scores[..., 1:], scores[..., :1], ties)  # [..., n - 1]
    if candidates is not None:
        above &= np.asarray(candidates)[..., 1:] != PADDING
    return np.asarray(1 + np.sum(above, axis=-1, dtype=np.int64))


def full_rank(
    scores: ArrayLike, targets: ArrayLike, seen: Sequence[ArrayLike], ties: Ties = "against"
) -> NDArray[np.int64]:
    """Ranks each target among all items of the catalogue that the user has not seen.

    Args:
        scores: array [users, items], higher is better.
        targets: item rows [users].
        seen: item rows to leave out, per user; the target is ranked even when among them.
        ties: as in ``rank_of_target``.

    Returns:
        int64 [users], 1 is best; NaN counts against the target as in ``rank_of_target``.
    """
    scores, targets = np.asarray(scores), np.asarray(targets)
    users = np.arange(len(targets))
    above = _above(scores, scores[users, targets][:, None], ties)  # [users, items]
    above[users, targets] = False  # a target is not above itself
    for row, items in zip(above, seen, strict=True):
        row[np.asarray(items, dtype=np.int64)] = False
    return np.asarray(1 + np.sum(above, axis=-1, dtype=np.int64))


def hit_at(ranks: ArrayLike, k: int) -> float:
    """Computes the hit ratio H@k: the share of targets among the first k."""
    return float(np.mean(_ranks(ranks) <= k))  # MISS is infinite and never a hit


def ndcg_at(ranks: ArrayLike, k: int) -> float:
    """Computes N@k, the NDCG of one relevant item: the mean of 1 / log2(rank + 1), which is 0 beyond k."""
    ranks = _ranks(ranks)
    return float(np.mean(np.where(ranks <= k, 1 / np.log2(ranks + 1), 0.0)))


def sampled_metrics_or_none(ranks: ArrayLike) -> dict[str, float | None]:
    """Computes H@1, H@5 and N@5; each is None where no user is left to average over."""
    return {**sampled_metrics(ranks)} if np.size(ranks) else dict.fromkeys(SAMPLED)


def sampled_metrics(ranks: ArrayLike) -> dict[str, float]:
    """Computes H@1, H@5 and N@5, the paper's columns for ranking 1 + 29 candidates, as shares of one."""
    return {"H@1": hit_at(ranks, 1), "H@5": hit_at(ranks, 5), "N@5": ndcg_at(ranks, 5)}


def full_metrics(ranks: ArrayLike) -> dict[str, float]:
    """Computes H@10 and N@10, quoted for ranks over the whole catalogue, as shares of one."""
    return {"H@10": hit_at(ranks, 10), "N@10": ndcg_at(ranks, 10)}


def evaluate(
    score: ScoreFunction,
    examples: Sequence[Example],
    candidates: NDArray[np.int32],
    batch: int = 1024,
    ties: Ties = "against",
) -> NDArray[np.int64]:
    """Ranks the targets, int64 [examples], with a function that is fed ``batch`` examples at a time."""
    ranks = [np.empty(0, dtype=np.int64)]
    for at in range(0, len(examples), batch):
        some = candidates[at : at + batch]
        ranks.append(rank_of_target(score(examples[at : at + batch], some), some, ties))
    return np.concatenate(ranks)


def evaluate_full(
    score: ScoreFunction,
    examples: Sequence[Example],
    n_items: int,
    batch: int = 1024,
    ties: Ties = "against",
) -> NDArray[np.int64]:
    """Ranks the targets among all items that their users have not seen before, int64 [examples]."""
    catalogue = np.arange(n_items, dtype=np.int32)
    ranks = [np.empty(0, dtype=np.int64)]
    for at in range(0, len(examples), batch):
        some = examples[at : at + batch]
        scores = score(some, np.broadcast_to(catalogue, (len(some), n_items)))
        ranks.append(full_rank(scores, [e.target for e in some], [e.history for e in some], ties))
    return np.concatenate(ranks)


def _above(
    others: NDArray[np.floating[Any] | np.integer[Any]],
    target: NDArray[np.floating[Any] | np.integer[Any]],
    ties: Ties,
) -> NDArray[np.bool_]:
    """Says which scores put their items above the target; NaN does, since no comparison with it is true."""
    return np.asarray(~(others < target if ties == "against" else others <= target))


def _ranks(ranks: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(ranks, dtype=np.float64)
    if not array.size:
        raise EvaluationError("there is no example to average over: every user has fewer than three items")
    return array
