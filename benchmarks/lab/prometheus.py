"""Reads the metrics of a service from scrapes of ``GET /metrics``, and the difference of two scrapes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.errors import BenchmarkError

REQUEST_DURATION = "msr_request_duration_seconds"
"""Name of the service's histogram of the time that ``POST /recommend`` takes."""


@dataclass(frozen=True, slots=True)
class HistogramTotal:
    """Sum and count of a histogram over the chosen label values.

    Attributes:
        seconds: sum of all observations (``_sum``).
        count: number of observations (``_count``).
    """

    seconds: float
    count: float

    def since(self, earlier: HistogramTotal) -> HistogramTotal:
        """Subtracts an earlier scrape.

        Raises:
            BenchmarkError: the counters have become smaller, so the service was restarted in between.
        """
        # Counters only grow, and begin at 0 with the process.
        if self.count < earlier.count:
            raise BenchmarkError("the service was restarted during the measurement: measure again")
        return HistogramTotal(self.seconds - earlier.seconds, self.count - earlier.count)

    @property
    def mean(self) -> float:
        """Mean seconds per observation; NaN without any."""
        return self.seconds / self.count if self.count else math.nan


def histogram_total(text: str, name: str, labels: Mapping[str, str]) -> HistogramTotal:
    """Sums a histogram over all series that carry the given label values, whatever their other labels.

    Args:
        text: body of ``GET /metrics``.
        name: name of the histogram, without suffix.
        labels: label values that a series must have.

    Raises:
        BenchmarkError: the text is not a Prometheus exposition, or it has no such histogram at all.
    """
    try:
        families = [family for family in text_string_to_metric_families(text) if family.name == name]
    except ValueError as error:
        raise BenchmarkError(f"/metrics is not in Prometheus' text format: {error}") from error
    # A histogram without observations for these labels is there with other labels, or as a bare TYPE line.
    if not any(family.type == "histogram" for family in families):
        raise BenchmarkError(f"/metrics has no histogram {name}: is this an MSR Serve of this version?")
    sums = {f"{name}_sum": 0.0, f"{name}_count": 0.0}
    for family in families:
        for sample in family.samples:
            # Every bucket of the histogram is a sample too; only _sum and _count are added up.
            if sample.name in sums and labels.items() <= sample.labels.items():
                sums[sample.name] += sample.value
    return HistogramTotal(sums[f"{name}_sum"], sums[f"{name}_count"])


Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]
"""Values of samples, by name and sorted label values."""


def samples(text: str, prefixes: tuple[str, ...]) -> Samples:
    """Reads every sample whose name begins with one of the prefixes.

    Args:
        text: body of ``GET /metrics``.
        prefixes: beginnings of sample names, which have their suffix (``_total``, ``_count`` …).
    """
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith(prefixes)
    }


def added(before: Samples, after: Samples) -> Samples:
    """Subtracts two scrapes sample by sample; a series that is new in the later one began at 0."""
    # Counters and histograms only grow, so no series of the earlier scrape is missing later.
    return {key: value - before.get(key, 0.0) for key, value in after.items()}
