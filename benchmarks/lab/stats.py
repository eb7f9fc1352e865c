"""Computes means, medians, percentiles and 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

Z_95 = 1.959963984540054
"""Quantile of the standard normal distribution for two-sided 95 %."""

Interval = tuple[float, float]
"""Lower and upper end."""


def wilson(hits: int, total: int) -> Interval:
    """Computes the 95 % Wilson score interval of a proportion (Wilson, JASA 1927, eq. 4).

    Unlike the normal interval it stays inside [0, 1] and has a width at 0 and ``total`` hits.

    Raises:
        ValueError: not 0 <= hits <= total, or no trials.
    """
    if total < 1 or not 0 <= hits <= total:
        raise ValueError(f"{hits} hits of {total} trials is not a proportion")
    share, z2 = hits / total, Z_95**2
    # Wilson's interval is centred between the share and 1/2: eq. 4 solved for p.
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z_95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    # Clipped to the share, since rounding can leave it a last digit outside at 0 and total hits.
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def bootstrap_mean(values: ArrayLike, resamples: int = 2000) -> Interval:
    """Computes the 95 % percentile bootstrap interval of a mean (Efron 1979).

    A metric at 5 has only six possible values per user. So the resampling draws how often each value occurs,
    and its time does not grow with the number of users.

    Args:
        values: one number per user.
        resamples: number of bootstrap samples.

    Raises:
        ValueError: there are no values.
    """
    distinct, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    total = int(counts.sum())
    if not total:
        raise ValueError("no values to resample")
    # [resamples, distinct values]: how often each value occurs in each resample.
    # A fixed seed: the same values have the same interval in every run.
    draws = np.random.default_rng(0).multinomial(total, counts / total, size=resamples)
    # [resamples, distinct] @ [distinct] -> [resamples]: the mean of each resample.
    low, high = np.quantile(draws @ distinct / total, (0.025, 0.975))
    return float(low), float(high)


def median_interval(values: Sequence[float]) -> Interval:
    """Computes an interval that holds the median with at least 95 % confidence, whatever the distribution.

    Its ends are the k-th smallest and the k-th largest value, with the largest k that reaches 95 %. The
    median lies outside if fewer than k values are on one side of it, whose probability is binomial with p =
    1/2 (Hahn and Meeker 1991, Statistical Intervals, section 5.2). 15 values give k = 4 and 96.5 %.

    Raises:
        ValueError: there are fewer than six values.
    """
    count = len(values)
    if count < 6:
        raise ValueError(f"{count} values are too few for a 95 % interval of the median")
    k, outside = 0, 0.0  # outside: chance that the median is not between the ends
    # comb(count, k) / 2^count is the chance that exactly k of the values lie below the median; both ends, so
    # twice.
    while (outside := outside + 2 * math.comb(count, k) / 2**count) <= 0.05:
        k += 1
    ordered = sorted(values)
    return ordered[k - 1], ordered[-k]


def percentile(values: Sequence[float], percent: float) -> float:
    """Finds the smallest value that at least ``percent`` % of the values do not exceed (nearest rank).

    It is always a value that was measured, never one between two.

    Raises:
        ValueError: there are no values, or not 0 < percent <= 100.
    """
    if not values or not 0 < percent <= 100:
        raise ValueError(f"no {percent} % percentile of {len(values)} values")
    # Nearest rank counts from 1.
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def mean(values: Sequence[float]) -> float:
    """Computes the arithmetic mean.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no mean of no values")
    return math.fsum(values) / len(values)


def median(values: Sequence[float]) -> float:
    """Computes the median: the middle value, or the mean of the two in the middle.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no median of no values")
    return float(np.median(values))
