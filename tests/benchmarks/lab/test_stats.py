from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.lab.stats import bootstrap_mean, mean, median, percentile, wilson

proportions = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


@given(proportions)
def test_the_wilson_interval_holds_the_share_and_stays_inside_zero_and_one(pair: tuple[int, int]) -> None:
    hits, total = pair
    low, high = wilson(hits, total)
    assert 0 <= low <= hits / total <= high <= 1
    assert low < high


def test_the_wilson_interval_equals_a_published_example() -> None:
    # Newcombe, Statistics in Medicine 1998, table I: 81 of 263 and 15 of 148.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_more_users_narrow_the_wilson_interval() -> None:
    widths = [high - low for low, high in (wilson(n // 4, n) for n in (40, 400, 4000))]
    assert widths == sorted(widths, reverse=True)


@given(proportions)
def test_misses_mirror_hits(pair: tuple[int, int]) -> None:
    hits, total = pair
    low, high = wilson(hits, total)
    assert wilson(total - hits, total) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize(("hits", "total"), [(1, 0), (-1, 5), (6, 5)])
def test_what_is_no_proportion_is_refused(hits: int, total: int) -> None:
    with pytest.raises(ValueError, match="not a proportion"):
        wilson(hits, total)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=200))
def test_the_bootstrap_interval_lies_within_the_values_and_repeats_with_its_seed(values: list[float]) -> None:
    low, high = bootstrap_mean(values, resamples=200)
    assert min(values) - 1e-12 <= low <= high <= max(values) + 1e-12
    assert (low, high) == bootstrap_mean(values, resamples=200)


def test_the_bootstrap_interval_covers_like_the_normal_one_where_that_is_right() -> None:
    values = np.random.default_rng(1).choice([0.0, 0.4, 1.0], size=4000)
    low, high = bootstrap_mean(values)
    error = 1.96 * values.std() / np.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - error, values.mean() + error), abs=error / 10)


@given(numbers, st.floats(0.1, 100))
def test_a_percentile_is_the_least_measured_value_with_enough_below_it(values: list[float], p: float) -> None:
    found = percentile(values, p)
    assert found in values
    assert sum(value <= found for value in values) >= len(values) * p / 100 - 1e-9
    assert sum(value < found for value in values) < len(values) * p / 100 + 1e-9


@given(numbers)
def test_mean_and_median_agree_with_numpy(values: list[float]) -> None:
    assert mean(values) == pytest.approx(float(np.mean(values)), abs=1e-6)
    assert median(values) == pytest.approx(float(np.median(values)))


def test_statistics_of_nothing_are_refused() -> None:
    for function in (mean, median, bootstrap_mean, lambda values: percentile(values, 50)):
        with pytest.raises(ValueError, match="no "):
            function([])
