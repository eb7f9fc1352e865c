"""Defines all metrics of the service, and writes them for Prometheus.

Names begin with ``msr_``, units are base units, label sets are closed: never a user or item id. With several
workers every one sends its values to the parent, and a scrape of any worker shows the sums.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

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

        self.expose_all: Callable[[], Awaitable[bytes]] | None = None

    def set_bundle_info(self, backbones: Iterable[tuple[str, str, str]]) -> None:
        """Shows these backbones, each with name, version and family, in the place of those shown so far."""
        self.bundle_info.clear()
        for labels in backbones:
            self.bundle_info.labels(*labels).set(1)

    def snapshot(self) -> bytes:
        """Returns all values of this worker, for the parent of several workers."""
        return generate_latest(self.registry)

    async def expose(self) -> bytes:
        """Returns the text exposition of this process, or of all workers when there are several."""
        return await self.expose_all() if self.expose_all else self.snapshot()


class ParentMetrics:
    """Adds up the metrics of several workers in their parent."""

    def __init__(self) -> None:
        self._live: dict[int, bytes] = {}
        self._ended: list[bytes] = []

    def started(self, number: int, pid: int) -> None:
        """Notes that a worker runs."""

    def update(self, pid: int, snapshot: bytes) -> bool:
        """Takes the latest snapshot of a worker; returns whether it could be read."""
        self._live[pid] = snapshot
        return True

    def ended(self, pid: int) -> None:
        """Keeps the counters and histograms of a worker that has ended."""
        if (snapshot := self._live.pop(pid, None)) is not None:
            self._ended.append(snapshot)

    def restarted(self, reason: str) -> None:
        """Counts a worker that was started again."""

    def text(self) -> bytes:
        """Returns the text exposition of all workers."""
        lines: dict[str, float] = {}
        kinds: dict[str, str] = {}
        for number, snapshot in enumerate([*self._live.values(), *self._ended]):
            for line in snapshot.decode().splitlines():
                if line.startswith("# TYPE "):
                    kinds[line.split()[2]] = line.split()[3]
                    lines.setdefault(line, 0.0)
                elif not line.startswith("#"):
                    name, _, value = line.rpartition(" ")
                    gauge = kinds.get(name.partition("{")[0]) == "gauge"
                    if gauge and number >= len(self._live):
                        continue
                    both = max if name.startswith("msr_bundle_info") else sum
                    lines[name] = both((lines.get(name, 0.0), float(value)))
        return "".join(
            f"{name}\n" if name[0] == "#" else f"{name} {value}\n" for name, value in lines.items()
        ).encode()
