from __future__ import annotations

import numpy as np
import pytest

from benchmarks.lab.stats import bootstrap_mean, wilson
from models.comparison.statistics import agreement, hit_ratio, ndcg


@pytest.mark.parametrize("hits", [0, 1, 37, 400])
def test_a_hit_ratio_has_wilsons_interval(hits: int) -> None:
    ranks = np.array([5] * hits + [6] * (400 - hits))
    figure = hit_ratio(ranks, 5)
    assert figure.value == hits / 400
    assert (figure.low, figure.high) == pytest.approx(wilson(hits, 400), abs=1e-9)


def test_ndcg_has_the_interval_of_a_bootstrap_over_users() -> None:
    ranks = np.random.default_rng(1).integers(1, 31, size=400)
    gains = np.where(ranks <= 5, 1 / np.log2(ranks + 1), 0)
    figure = ndcg(ranks, 5)
    assert figure.value == pytest.approx(gains.mean())
    assert (figure.low, figure.high) == pytest.approx(bootstrap_mean(gains), abs=0.01)
    assert ndcg(ranks, 5) == figure  # the same in every table


def test_the_same_rank_of_all_users_leaves_no_width() -> None:
    figure = ndcg(np.ones(10, dtype=np.int32), 10)
    assert figure.low == figure.value == figure.high == 1


def test_two_orders_agree_fully_not_at_all_or_cannot_be_compared() -> None:
    assert agreement([0.1, 0.2, 0.3], [10, 20, 30]) == pytest.approx(1)
    assert agreement([0.1, 0.2, 0.3], [30, 20, 10]) == pytest.approx(-1)
    assert agreement([0.1], [10]) is None
    assert agreement([0.1, 0.1], [10, 20]) is None
