"""Computes what a table says of ranks: metrics with 95 % intervals, and whether two orders agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from models.evaluation import hit_at, ndcg_at

RESAMPLES = 2000
"""Bootstrap samples of an interval."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric with its 95 % interval, shares of one.

    Attributes:
        value: mean over the users.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float
    low: float
    high: float


def hit_ratio(ranks: ArrayLike, k: int) -> Figure:
    """Computes H@k with Wilson's interval (JASA 1927), which has a width at 0 and 100 % too.

    Args:
        ranks: ranks of at least one target, 1 is best.
        k: cutoff.
    """
    array = np.asarray(ranks)
    test = stats.binomtest(int(np.count_nonzero(array <= k)), array.size)
    interval = test.proportion_ci(confidence_level=0.95, method="wilson")
    return Figure(hit_at(array, k), float(interval.low), float(interval.high))


def ndcg(ranks: ArrayLike, k: int) -> Figure:
    """Computes N@k with the percentile interval of a bootstrap over users (Efron 1979).

    The gain of a user has k + 1 possible values. So the resampling draws how often each occurs, and its time
    does not grow with the number of users.

    Args:
        ranks: ranks of at least one target, 1 is best.
        k: cutoff.
    """
    array = np.minimum(np.asarray(ranks, dtype=np.int64), k + 1)
    counts = np.bincount(array, minlength=k + 2)[1:]  # users by rank, the last for all beyond k
    gains = np.append(1 / np.log2(np.arange(1, k + 1) + 1), 0.0)
    # A fixed seed: the same ranks have the same interval in every table.
    drawn = stats.multinomial.rvs(array.size, counts / array.size, size=RESAMPLES, random_state=0)
    low, high = np.quantile(drawn @ gains / array.size, (0.025, 0.975))
    return Figure(ndcg_at(array, k), float(low), float(high))


def agreement(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Computes Kendall's tau-b of two orders of the same models; None where it is not defined.

    Args:
        one: a figure of each model.
        other: another figure of each model.
    """
    if len(one) < 2:
        return None
    tau = float(stats.kendalltau(one, other).statistic)
    return None if np.isnan(tau) else tau
