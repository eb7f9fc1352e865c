"""Reads metric families from a registry, and merges those of several worker processes.

``prometheus_client`` has a multiprocess mode of its own. It maps files into every worker, and a full disk or
a truncated file then ends them all by SIGBUS.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

Series = dict[tuple[str, ...], list[float]]
"""Values by the values of the labels. A counter and a gauge have one; a histogram has the observations of
each bucket alone (without the smaller ones), the last for +Inf, and then the sum of what was observed."""

Merge = Callable[[float, float], float]
"""Makes one value of two workers' values."""

MERGES: dict[str, Merge] = {"sum": operator.add, "max": max, "min": min}


@dataclass(frozen=True, slots=True)
class Definition:
    """What a metric is, the same in every worker.

    Attributes:
        name: name without the suffix of its samples, such as ``_total``.
        kind: kind of metric.
        merge: how the values of live workers become one: a key of ``MERGES``.
        documentation: sentence that Prometheus shows.
        labels: names of the labels.
        bounds: upper bounds of a histogram's buckets, without +Inf.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    merge: str
    documentation: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """Number of values of one series."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1


@dataclass(frozen=True, slots=True)
class Family:
    """A metric with all its series."""

    definition: Definition
    series: Series


def collect(registry: CollectorRegistry) -> list[Family]:
    """Reads all metrics of a registry, from whichever thread, in the order in which they were defined.

    A gauge that is not finite is left out: JSON, in which workers send these values, cannot hold it.

    Raises:
        TypeError: the registry holds something else than counters, gauges and histograms, or a gauge without
            a ``multiprocess_mode`` that says how the values of workers become one.
    """
    # Private names: no public one gives the metrics themselves, and `registry.collect()`, with an object and
    # a dict for every bucket, takes 30 times as long. A test holds the values equal to those of its text.
    return [_read(metric) for metric in list(registry._collector_to_names)]


def _read(metric: object) -> Family:
    if isinstance(metric, Histogram):
        return _read_histogram(metric)
    if not isinstance(metric, Counter | Gauge):
        raise TypeError(f"{metric} is neither a counter nor a gauge nor a histogram")
    name, labels = metric._name, tuple(metric._labelnames)
    if isinstance(metric, Gauge):
        merge = metric._multiprocess_mode.removeprefix("live")
        if merge not in MERGES:
            raise TypeError(f"{metric} needs a multiprocess_mode: livesum, livemax or livemin")
        definition, sampled = Definition(name, "gauge", merge, metric._documentation, labels), name
    else:
        definition, sampled = (
            Definition(name, "counter", "sum", metric._documentation, labels),
            f"{name}_total",
        )
    samples = (sample for found in metric.collect() for sample in found.samples)
    series = {
        tuple(sample.labels[label] for label in labels): [float(sample.value)]
        for sample in samples
        if sample.name == sampled and math.isfinite(sample.value)  # a counter has `_created` besides
    }
    return Family(definition, series)


def _read_histogram(metric: Histogram) -> Family:
    labels = tuple(metric._labelnames)
    bounds = tuple(metric._upper_bounds[:-1])
    definition = Definition(metric._name, "histogram", "sum", metric._documentation, labels, bounds)
    children: dict[tuple[str, ...], Histogram] = {(): metric}
    if labels:
        with metric._lock:
            children = cast(dict[tuple[str, ...], Histogram], metric._metrics.copy())
    series = {
        key: [*[bucket._value for bucket in child._buckets], child._sum._value]
        for key, child in children.items()
    }
    return Family(definition, series)


def merge(by: Merge, parts: Iterable[Series]) -> Series:
    """Returns the series of several workers as one; the parts stay as they are."""
    merged: Series = {}
    for part in parts:
        for key, values in part.items():
            found = merged.get(key)
            merged[key] = values if found is None else list(map(by, found, values))
    return merged


def definitions(families: Sequence[Family]) -> tuple[Definition, ...]:
    """Returns what the metrics are, without their series."""
    return tuple(family.definition for family in families)
