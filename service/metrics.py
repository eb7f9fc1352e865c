"""Defines all metrics of the service, and writes them for Prometheus.

Names begin with ``msr_``, units are base units, label sets are closed: never a user or item id. With several
workers ``PROMETHEUS_MULTIPROC_DIR`` is set before this module is imported: then every worker writes its
values to files in that folder, and a scrape of any worker sums up all of them.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable of the Prometheus client with the folder in which workers share their values."""

BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0),
)
"""Upper bounds in seconds: one histogram holds SASRec's 2.5 ms and GPT-4V's 42 s; longer times go to +Inf."""

NONE = "none"
"""Label value of a request that has no LVLM model, or no cache."""


class Metrics:
    """The metrics of one application, on a registry of their own, so that tests can make several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.request_duration = Histogram(
            "msr_request_duration_seconds",
            "Time to answer POST /recommend, failed requests included",
            ("strategy", "backbone", "model", "cache", "outcome", "status"),
            buckets=BUCKETS,
            registry=registry,
        )
        self.stage_duration = Histogram(
            "msr_stage_duration_seconds",
            "Time spent in one stage of a recommendation",
            ("stage", "strategy"),
            buckets=BUCKETS,
            registry=registry,
        )
        self.inflight_requests = Gauge(
            "msr_inflight_requests",
            "Recommendations being worked on",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.fallbacks = Counter(
            "msr_fallbacks_total",
            "Recommendations that the LVLM was asked for and did not order, or not alone",
            ("reason",),
            registry=registry,
        )
        self.cache_events = Counter(
            "msr_cache_events_total",
            "Look-ups and writes of the answer and caption caches",
            ("cache", "result"),
            registry=registry,
        )
        self.lvlm_call_duration = Histogram(
            "msr_lvlm_call_duration_seconds",
            "Time of one attempt at a provider",
            ("provider", "model", "outcome"),
            buckets=BUCKETS,
            registry=registry,
        )
        self.lvlm_time_to_first_token = Histogram(
            "msr_lvlm_time_to_first_token_seconds",
            "Time until the first piece of a streamed answer",
            ("provider", "model"),
            buckets=BUCKETS,
            registry=registry,
        )
        self.lvlm_tokens = Counter(
            "msr_lvlm_tokens_total",
            "Tokens billed by the provider, or estimated where an attempt was cut; cached_input and image "
            "are parts of input",
            ("provider", "model", "direction"),
            registry=registry,
        )
        self.lvlm_estimated_tokens = Counter(
            "msr_lvlm_estimated_tokens_total",
            "The part of msr_lvlm_tokens_total that no provider reported: of attempts that were cut",
            ("provider", "model", "direction"),
            registry=registry,
        )
        self.lvlm_retries = Counter(
            "msr_lvlm_retries_total",
            "Attempts made again, by what the one before had failed with",
            ("provider", "model", "reason"),
            registry=registry,
        )
        self.lvlm_hedges = Counter(
            "msr_lvlm_hedges_total",
            "Second attempts beside one that was slow to begin: made, and won by the second",
            ("provider", "model", "result"),
            registry=registry,
        )
        # livesum: the scrape adds up the values of the workers that are alive.
        self.lvlm_breaker_open = Gauge(
            "msr_lvlm_breaker_open",
            "1 while a model that keeps failing is left alone; with several workers, how many leave it alone",
            ("provider", "model"),
            multiprocess_mode="livesum",
            registry=registry,
        )
        # "Places" is the public name of what the code calls the concurrency limit.
        self.lvlm_places = Gauge(
            "msr_lvlm_places",
            "Calls that may be under way at once, of all workers",
            ("provider", "model"),
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.lvlm_cost = Counter(
            "msr_lvlm_cost_usd_total",
            "Cost of all attempts in US dollars",
            ("provider", "model"),
            registry=registry,
        )
        self.lvlm_repairs = Counter(
            "msr_lvlm_repairs_total",
            "Faults in answers that were repaired: invented, duplicated and missing items, and another form "
            "than the one asked for",
            ("provider", "model", "kind"),
            registry=registry,
        )
        self.lvlm_inflight = Gauge(
            "msr_lvlm_inflight",
            "Attempts under way at providers",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.events = Counter(
            "msr_events_total",
            "Events that POST /events was given: stored or repeated; and dropped, since a user has too many",
            ("result",),
            registry=registry,
        )
        self.events_batches = Counter(
            "msr_events_batches_total",
            "Batches of POST /events: ok, full (507) or failed (503)",
            ("result",),
            registry=registry,
        )
        self.events_unreadable = Counter(
            "msr_events_unreadable_total",
            "Values in the store of events that were left out, since the service did not write them",
            registry=registry,
        )
        # livemax: all workers read the same store.
        self.events_users = Gauge(
            "msr_events_users", "Users who have events", multiprocess_mode="livemax", registry=registry
        )
        self.events_users_limit = Gauge(
            "msr_events_users_limit",
            "Users from which on new ones are refused",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.events_bytes = Gauge(
            "msr_events_bytes", "Bytes that the events take", multiprocess_mode="livemax", registry=registry
        )
        self.events_bytes_limit = Gauge(
            "msr_events_bytes_limit",
            "Bytes from which on new users are refused",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.bundle_info = Gauge(
            "msr_bundle_info",
            "1 for every backbone that is served",
            ("name", "version", "model"),
            multiprocess_mode="livemax",  # all workers set 1
            registry=registry,
        )

        # Looking up a child by its labels costs more than observing. The cache stays small: stages and
        # strategies are few.
        self.stage = cache(self.stage_duration.labels)

    def expose(self) -> bytes:
        """Returns the text exposition of this process, or of all workers when there are several."""
        folder = os.environ.get(MULTIPROCESS_VARIABLE)
        if not folder:
            return generate_latest(self.registry)
        _sweep(Path(folder))
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def _sweep(folder: Path) -> None:
    """Removes the live gauges of dead workers: a worker that was killed could not do it itself."""
    # The client names its files gauge_<mode>_<pid>.db.
    for pid in {path.stem.rsplit("_", 1)[-1] for path in folder.glob("gauge_live*_*.db")}:
        if not _alive(int(pid)):
            mark_process_dead(int(pid), path=str(folder))  # type: ignore[no-untyped-call]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # signal 0 reaches no process; only its existence is checked
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists, under another user
        return True
    return True
