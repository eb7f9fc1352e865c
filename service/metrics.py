"""Defines all metrics of the service, and writes them for Prometheus.

Names begin with ``msr_``, units are base units, label sets are closed: never a user or item id. With several
workers each sends snapshots of its metrics to the parent process, which adds them up for every scrape; a
gauge says by ``multiprocess_mode`` how.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.exposition.families import collect
from service.exposition.process_metrics import process_families
from service.exposition.shared_exposition import SharedExposition
from service.exposition.snapshots import SnapshotError, write_snapshot
from service.exposition.text_format import write_text
from service.exposition.worker_snapshots import WorkerSnapshots

BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0),
)
"""Upper bounds in seconds: one histogram holds SASRec's 2.5 ms and GPT-4V's 42 s; longer times go to +Inf."""

NONE = "none"
"""Label value of a request that has no LVLM model, or no cache."""

OTHER = "other"
"""Label value of a request for a path that is no route."""

PARENT_SECONDS = 3.0
"""Seconds that the parent process has for an exposition; Prometheus waits for five (its interval here)."""


class Metrics:
    """The metrics of one application, on a registry of their own, so that tests can make several.

    Attributes:
        expose_all: function that asks the parent process for the exposition of all workers; None for a
            process that has no others beside it. May raise OSError.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.expose_all: Callable[[], Awaitable[bytes]] | None = None
        self._exposition = SharedExposition(self._expose)
        registry = self.registry
        self.request_duration = Histogram(
            "msr_request_duration_seconds",
            "Time to answer POST /recommend, failed requests included",
            ("strategy", "backbone", "model", "cache", "outcome", "status"),
            buckets=BUCKETS,
            registry=registry,
        )
        self.http_requests = Counter(
            "msr_http_requests_total",
            "Requests by the route that they named and the status of the answer, refused ones included",
            ("route", "status"),
            registry=registry,
        )
        self.http_request_duration = Histogram(
            "msr_http_request_duration_seconds",
            "Time to answer a request of another route than POST /recommend",
            ("route", "status"),
            buckets=BUCKETS,
            registry=registry,
        )
        # An alert on an increase sees only a series that was there before it.
        for route, status in (("/events", "503"), ("/events", "507"), ("/users/{user_id}", "503")):
            self.http_requests.labels(route, status)
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
        self.client_limited = Counter(
            "msr_client_limited_total",
            "Requests that were refused because their client had reached its limit for the minute",
            ("limit",),
            registry=registry,
        )
        self.events = Counter(
            "msr_events_total",
            "Events that POST /events was given: stored or repeated; and dropped, since a user has too many",
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
        self.connections = Gauge(
            "msr_connections",
            "Connections that clients have open, as of the last second",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.connections_refused = Counter(
            "msr_connections_refused_total",
            "Connections that were refused or closed for what their clients sent, or did not send or take",
            ("reason",),
            registry=registry,
        )

        # Looking up a child by its labels costs more than observing. The cache stays small: stages and
        # strategies are few.
        self.stage = cache(self.stage_duration.labels)

        self.http_request = cache(self.http_requests.labels)
        self.http_request_seconds = cache(self.http_request_duration.labels)

    def set_bundle_info(self, backbones: Iterable[tuple[str, str, str]]) -> None:
        """Sets which backbones are served; those of the bundle before are gone.

        Args:
            backbones: name, version and family of each.
        """
        self.bundle_info.clear()
        for name, version, family in backbones:
            self.bundle_info.labels(name, version, family).set(1)

    async def expose(self) -> bytes:
        """Returns the text exposition of all workers, which holds what was observed before the call.

        Raises:
            OSError: the parent process does not answer (TimeoutError: within three seconds).
        """
        return await self._exposition.get()

    async def _expose(self) -> bytes:
        if self.expose_all is None:
            return await asyncio.to_thread(self.text)
        async with asyncio.timeout(PARENT_SECONDS):
            return await self.expose_all()

    def text(self) -> bytes:
        """Returns the text exposition of this process alone, as of its only worker."""
        return write_text([*collect(self.registry), *process_families({"0": os.getpid()})])

    def snapshot(self) -> bytes:
        """Returns the values of this worker, for ``ParentMetrics.update``."""
        return write_snapshot(collect(self.registry))


class ParentMetrics:
    """The metrics of all workers, kept by their parent process beside its own.

    All methods but ``text`` are called by one thread.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.worker_restarts = Counter(
            "msr_worker_restarts_total",
            "Workers that took the place of one that had exited, was silent, or did not start",
            ("reason",),
            registry=self.registry,
        )
        self.snapshots_lost = Counter(
            "msr_metrics_snapshots_lost_total",
            "Snapshots of a worker's metrics that were damaged or of another version, and left out",
            registry=self.registry,
        )
        for reason in ("exited", "silent", "start"):
            self.worker_restarts.labels(reason)
        self._workers = WorkerSnapshots(collect(Metrics().registry))
        self.started = self._workers.started
        self.ended = self._workers.ended

    def restarted(self, reason: str) -> None:
        """Counts a worker that takes another's place.

        Args:
            reason: why: ``exited``, ``silent`` or ``start`` (it did not become ready).
        """
        self.worker_restarts.labels(reason).inc()

    def update(self, pid: int, snapshot: bytes) -> None:
        """Replaces the metrics of a worker, or counts the snapshot as lost."""
        try:
            self._workers.update(pid, snapshot)
        except SnapshotError:
            self.snapshots_lost.inc()

    def text(self) -> bytes:
        """Returns the text exposition of all workers and the parent; may be called in a thread."""
        processes = {**self._workers.processes, "parent": os.getpid()}
        return write_text([*self._workers.merged(), *collect(self.registry), *process_families(processes)])
