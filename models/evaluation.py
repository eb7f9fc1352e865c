"""Evaluates by leave-one-out with sampled candidates, alike in training and in replay (numpy only).

The protocol is SASRec's (Kang & McAuley, ICDM 2018, section IV-C) with the candidate count of MSRBench
(Zhou et al., WWW 2025): the last item of a user is the test target, the one before it the validation
target, and a target is ranked among 29 items that the user never touched.

All draws depend on the arguments of a function alone: no generator is passed on, so the candidates of a user
are the same in a batch of training, in a replay over HTTP and in any order of calls. The draws come from
SplitMix64 (Steele et al., OOPSLA 2014), which is written out below, since numpy may change its streams
between versions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.data.dataset import Rows
from models.errors import EvaluationError

MISS = math.inf
"""Rank of a target that was not ranked at all: it counts as neither hit nor gain at any cutoff."""

COHORT_SIZE = 400
"""Number of users in the paper's cohort. Cochran's formula z² p (1 - p) / margin² asks for 385, with 95 %
confidence and a margin of 5 %."""

ScoreFunction = Callable[[Sequence[Rows], NDArray[np.int32]], NDArray[np.floating[Any] | np.integer[Any]]]
"""Function of histories [users] and candidates int32 [users, n] to scores [users, n], higher is better."""


@dataclass(frozen=True, slots=True)
class EvaluationProtocol:
    """Parameters of the draw of candidates; stored beside every metric.

    Attributes:
        seed: seed of the negatives.
        negatives: number of unseen items that a target is ranked among.
    """

    seed: int = 2024
    negatives: int = 29

    def to_json(self) -> dict[str, Any]:
        """Returns the parameters with the rules of the draw, to be stored beside metrics."""
        return {
            **asdict(self),
            "split": "leave-one-out",
            "sampler": "uniform over unseen items, splitmix64",
            "ties": "against the target",
        }


@dataclass(frozen=True, slots=True)
class Example:
    """One prediction with a known answer: the item after ``history`` is ``target``.

    Attributes:
        user: position of the user in ``Dataset.users``.
        history: item rows before the target, oldest first.
        target: item row of the answer.
    """

    user: int
    history: Rows
    target: int


@dataclass(frozen=True, slots=True)
class Split:
    """A data set cut for training, validation and test.

    Attributes:
        training: item rows before both targets, per user.
        validation: examples of the second to last items; their history is the training part.
        test: examples of the last items; their history holds the validation item.
    """

    training: tuple[Rows, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]


def leave_one_out(histories: Sequence[Rows]) -> Split:
    """Cuts every history into training part, validation target and test target.

    The history of a user with fewer than three items is training part as a whole: without the two targets
    nothing would be left to predict from. Such a user is in neither list of examples.
    """
    long_enough = [(user, rows) for user, rows in enumerate(histories) if len(rows) >= 3]
    return Split(
        training=tuple(rows[:-2] if len(rows) >= 3 else rows for rows in histories),
        validation=tuple(Example(user, rows[:-2], int(rows[-2])) for user, rows in long_enough),
        test=tuple(Example(user, rows[:-1], int(rows[-1])) for user, rows in long_enough),
    )


def popularity(histories: Sequence[Rows], n_items: int) -> NDArray[np.int64]:
    """Counts interactions per item, int64 [n_items], in the training part alone.

    Validation and test items are not counted: Pop, and cold start, would know what is to be predicted.
    """
    training = np.concatenate([np.empty(0, dtype=np.int32), *leave_one_out(histories).training])
    return np.bincount(training, minlength=n_items).astype(np.int64)


def sample_candidates(
    seen: ArrayLike, target: int, n_items: int, protocol: EvaluationProtocol, user: int
) -> NDArray[np.int32]:
    """Draws the negatives that the target is ranked among.

    Args:
        seen: item rows of the user, later ones too; none of them is drawn.
        target: item row of the answer.
        n_items: size of the catalogue.
        protocol: seed and number of negatives.
        user: position of the user in the data set.

    Returns:
        int32 [1 + negatives], the target first, all different.

    Raises:
        EvaluationError: the user has seen so much that too few items are left. Ranking among fewer would be
            an easier task under the same name.
    """
    taken = {target, *np.asarray(seen).tolist()}
    if n_items - len(taken) < protocol.negatives:
        raise EvaluationError(
            f"user {user} has seen all but {n_items - len(taken)} of {n_items} items and the protocol wants "
            f"{protocol.negatives} unseen ones: evaluate with fewer negatives"
        )
    candidates = [target]
    for row in _draws(n_items, protocol.seed, user, target):
        if len(candidates) > protocol.negatives:  # the target and all negatives
            break
        if row not in taken:
            taken.add(row)
            candidates.append(row)
    return np.array(candidates, dtype=np.int32)


def rank_of_target(scores: ArrayLike) -> NDArray[np.int64]:
    """Ranks the target, whose score comes first, among all candidates.

    A tie counts against the target. So does NaN in either score, since every comparison with NaN is false: a
    model that answers NaN gets the worst rank.

    Args:
        scores: array [..., n], the target's score in column 0, higher is better.

    Returns:
        int64 [...], 1 is best and n is worst.
    """
    scores = np.asarray(scores)
    beaten = scores[..., 1:] < scores[..., :1]  # [..., n - 1]
    return np.asarray(1 + np.sum(~beaten, axis=-1, dtype=np.int64))


def full_rank(scores: ArrayLike, targets: ArrayLike, seen: Sequence[ArrayLike]) -> NDArray[np.int64]:
    """Ranks each target among all items of the catalogue that the user has not seen.

    Args:
        scores: array [users, items], higher is better.
        targets: item rows [users].
        seen: item rows to leave out, per user; the target is ranked even when among them.

    Returns:
        int64 [users], 1 is best; ties and NaN count against the target as in ``rank_of_target``.
    """
    scores, targets = np.asarray(scores), np.asarray(targets)
    users = np.arange(len(targets))
    above = ~(scores < scores[users, targets][:, None])  # [users, items]; True for ties and NaN
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


def sampled_metrics(ranks: ArrayLike) -> dict[str, float]:
    """Computes H@1, H@5 and N@5, the paper's columns for ranking 1 + 29 candidates, as shares of one."""
    return {"H@1": hit_at(ranks, 1), "H@5": hit_at(ranks, 5), "N@5": ndcg_at(ranks, 5)}


def full_metrics(ranks: ArrayLike) -> dict[str, float]:
    """Computes H@10 and N@10, quoted for ranks over the whole catalogue, as shares of one."""
    return {"H@10": hit_at(ranks, 10), "N@10": ndcg_at(ranks, 10)}


def candidate_matrix(
    examples: Sequence[Example], histories: Sequence[Rows], n_items: int, protocol: EvaluationProtocol
) -> NDArray[np.int32]:
    """Draws the candidates of many examples, int32 [examples, 1 + negatives], targets in column 0.

    Args:
        examples: examples of one part of the split.
        histories: complete histories by user position: items that a user takes later are no negatives either.
        n_items: size of the catalogue.
        protocol: seed and number of negatives.
    """
    rows = [sample_candidates(histories[e.user], e.target, n_items, protocol, e.user) for e in examples]
    return np.array(rows, dtype=np.int32).reshape(len(rows), 1 + protocol.negatives)


def evaluate(
    score: ScoreFunction, examples: Sequence[Example], candidates: NDArray[np.int32], batch: int = 1024
) -> NDArray[np.int64]:
    """Ranks the targets, int64 [examples], with a function that is fed ``batch`` examples at a time."""
    ranks = [
        rank_of_target(score([e.history for e in examples[at : at + batch]], candidates[at : at + batch]))
        for at in range(0, len(examples), batch)
    ]
    return np.concatenate(ranks) if ranks else np.empty(0, dtype=np.int64)


def cohort(users: ArrayLike, n: int = COHORT_SIZE, seed: int = 2024) -> NDArray[np.int64]:
    """Draws a seeded sample of users, for evaluations that cost money per user.

    Args:
        users: user positions to choose from.
        n: size of the sample; where there are fewer users, all of them are taken.
        seed: seed of the choice. With one seed a smaller cohort is part of every larger one.

    Returns:
        int64 [min(n, users)], ascending.
    """
    users = np.unique(np.asarray(users, dtype=np.int64))
    # The n users with the smallest hashes: a smaller n takes a part of them.
    keys = np.array([_mix(_mix(seed) ^ user) for user in users.tolist()], dtype=np.uint64)
    return np.sort(users[np.argsort(keys, kind="stable")[:n]])


def _ranks(ranks: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(ranks, dtype=np.float64)
    if not array.size:
        raise EvaluationError("there is no example to average over: every user has fewer than three items")
    return array


_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, the increment of SplitMix64's state


def _mix(state: int) -> int:
    """Mixes 64 bits: the output function of SplitMix64."""
    z = (state + _GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def _draws(n_items: int, *key: int) -> Iterator[int]:
    """Yields uniform item rows without end, the same for the same key."""
    state = 0
    for part in key:  # each part is mixed in, so that (1, 2) and (2, 1) are different keys
        state = _mix(state ^ part)
    while True:
        yield _mix(state) % n_items  # the modulo's bias is below n_items / 2^64
        state += _GOLDEN
