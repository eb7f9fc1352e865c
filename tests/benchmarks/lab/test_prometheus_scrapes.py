from __future__ import annotations

import math

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from benchmarks.errors import BenchmarkError
from benchmarks.lab.prometheus import HistogramTotal, histogram_total


@pytest.fixture
def text() -> str:
    registry = CollectorRegistry()
    histogram = Histogram("msr_request_duration_seconds", "x", ("strategy", "status"), registry=registry)
    for strategy, status, seconds in (
        ("s1", "200", 1.0),
        ("s1", "500", 3.0),
        ("s3", "200", 7.0),
        ("s1 ", "200", 9.0),
    ):
        histogram.labels(strategy, status).observe(seconds)
    Histogram("msr_request_duration_seconds_other", "x", ("strategy",), registry=registry).labels(
        "s1"
    ).observe(100)
    Counter("msr_fallbacks", "x", registry=registry)
    return generate_latest(registry).decode()


def test_only_series_with_exactly_the_label_value_are_summed(text: str) -> None:
    assert histogram_total(text, "msr_request_duration_seconds", {"strategy": "s1"}) == HistogramTotal(4.0, 2)
    assert histogram_total(
        text, "msr_request_duration_seconds", {"strategy": "s1", "status": "500"}
    ) == HistogramTotal(3.0, 1)


def test_a_label_value_that_was_never_seen_is_zero(text: str) -> None:
    assert histogram_total(text, "msr_request_duration_seconds", {"strategy": "s5"}) == HistogramTotal(0.0, 0)


def test_a_missing_histogram_is_an_error_and_not_zero(text: str) -> None:
    for name in ("msr_absent_seconds", "msr_fallbacks"):
        with pytest.raises(BenchmarkError, match="no histogram"):
            histogram_total(text, name, {})


def test_text_in_another_format_is_an_error() -> None:
    with pytest.raises(BenchmarkError, match="text format"):
        histogram_total('<html lang="en">\nwhat{ 1', "msr_request_duration_seconds", {})


def test_the_difference_of_two_scrapes_has_its_own_mean() -> None:
    added = HistogramTotal(10.0, 4).since(HistogramTotal(4.0, 1))
    assert added.mean == 2.0
    assert math.isnan(HistogramTotal(1.0, 1).since(HistogramTotal(1.0, 1)).mean)


def test_counters_that_went_back_mean_a_restart() -> None:
    with pytest.raises(BenchmarkError, match="restarted"):
        HistogramTotal(1.0, 1).since(HistogramTotal(4.0, 2))
