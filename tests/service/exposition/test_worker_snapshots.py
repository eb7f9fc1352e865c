"""Tests that the metrics of workers, merged, are those of one process that saw everything."""

from __future__ import annotations

import random
from collections.abc import Callable

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.exposition.families import collect
from service.exposition.snapshots import SnapshotError, write_snapshot
from service.exposition.text_format import write_text
from service.exposition.worker_snapshots import WorkerSnapshots
from service.metrics import Metrics, ParentMetrics

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Shop:
    """Metrics of each kind, with labels and without."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.visits = Counter("visits", "Visits", registry=registry)
        self.sold = Counter("sold", 'What "was"\nsold \\', ("item", "aisle"), registry=registry)
        self.wait = Histogram("wait_seconds", "Wait", ("till", "a"), buckets=(0.5, 1, 30), registry=registry)
        self.size = Histogram("size", "Size", buckets=(1, 20), registry=registry)
        self.inside = Gauge("inside", "People", registry=registry, multiprocess_mode="livesum")
        self.version = Gauge("version", "Newest", ("of",), registry=registry, multiprocess_mode="livemax")

    def snapshot(self) -> bytes:
        return write_snapshot(collect(self.registry))

    def text(self) -> bytes:
        return write_text(collect(self.registry))


Action = Callable[[Shop], None]
names = st.text(max_size=3)
amounts = st.integers(0, 60)  # whole numbers, whose sums do not depend on their order
actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(lambda n: lambda shop: shop.visits.inc(n), amounts),
    st.builds(lambda a, b, n: lambda shop: shop.sold.labels(a, b).inc(n), names, names, amounts),
    st.builds(lambda a, b, n: lambda shop: shop.wait.labels(a, b).observe(n), names, names, amounts),
    st.builds(lambda n: lambda shop: shop.size.observe(n), amounts),
)


def samples(text: bytes) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), actions), max_size=25))
def test_what_workers_counted_adds_up_to_one_registry_that_saw_everything(
    steps: list[tuple[int, bool, Action]],
) -> None:
    alone, shops = Shop(), [Shop() for _ in range(4)]
    workers = WorkerSnapshots(collect(Shop().registry))
    for number in range(4):
        workers.started(number, number)
    for number, ends, action in steps:
        action(alone)
        action(shops[number])
        workers.update(number, shops[number].snapshot())
        if ends:
            workers.ended(number)
            workers.started(number, number)
            shops[number] = Shop()
    assert counted(write_text(workers.merged())) == counted(alone.text())


def counted(text: bytes) -> Samples:
    return {key: value for key, value in samples(text).items() if key[0] not in ("inside", "version")}


@settings(max_examples=40)
@given(st.lists(actions, max_size=20))
def test_the_text_says_what_the_text_of_the_client_library_says(steps: list[Action]) -> None:
    shop = Shop()
    for action in steps:
        action(shop)
    shop.inside.set(1.5e-7)
    shop.version.labels("x").set(123456789)
    lines = [line for line in generate_latest(shop.registry).split(b"\n") if b"_created" not in line]
    assert shop.text().split(b"\n") == lines


def test_gauges_of_live_workers_become_one_and_those_of_dead_ones_go() -> None:
    workers, shops = WorkerSnapshots(collect(Shop().registry)), [Shop(), Shop()]
    for pid, shop in enumerate(shops):
        shop.inside.set(3 + pid)
        shop.version.labels("x").set(7 + pid)
        workers.started(pid, pid)
        workers.update(pid, shop.snapshot())
    found = samples(write_text(workers.merged()))
    assert found["inside", frozenset()] == 7
    assert found["version", frozenset({("of", "x")})] == 8
    workers.ended(1)
    found = samples(write_text(workers.merged()))
    assert found["inside", frozenset()] == 3
    assert found["version", frozenset({("of", "x")})] == 7
    workers.ended(0)
    assert not [name for name, _ in samples(write_text(workers.merged())) if name in ("inside", "version")]


def test_no_counter_goes_down_when_workers_come_and_go() -> None:
    drawn = random.Random(1)
    workers = WorkerSnapshots(collect(Shop().registry))
    live: dict[int, Shop] = {}
    before: Samples = {}
    for pid in range(300):
        if pid % 3 == 0:
            live[pid] = Shop()
            workers.started(pid % 4, pid)
        chosen = drawn.choice(list(live))
        live[chosen].visits.inc(drawn.random())
        live[chosen].wait.labels("1", "b").observe(drawn.random() * 40)
        if drawn.random() < 0.7:
            workers.update(chosen, live[chosen].snapshot())
        if drawn.random() < 0.2:
            workers.ended(chosen)
            workers.ended(chosen)
            workers.update(chosen, live.pop(chosen).snapshot())
            live = live or {pid: Shop()}
        after = counted(write_text(workers.merged()))
        assert all(after[key] >= value for key, value in before.items())
        before = after


def damaged() -> list[bytes]:
    shop = Shop()
    shop.sold.labels("tea", "4").inc()
    good = shop.snapshot()
    fingerprint, families = orjson.loads(good)
    return [
        b"",
        b"\x00" * 100,
        b"[" * 100_000,
        b"null",
        good[:-1],
        good[: len(good) // 2],
        orjson.dumps(["0" * 16, families]),
        orjson.dumps([fingerprint, families[:-1]]),
        good.replace(b'[["tea","4"],[1.0]]', b'[["tea"],[1.0]]'),
        good.replace(b'[["tea","4"],[1.0]]', b'[["tea","4"],[]]'),
        good.replace(b'[["tea","4"],[1.0]]', b'[["tea","4"],[-1.0]]'),
        good.replace(b'[["tea","4"],[1.0]]', b'[["tea","4"],[null]]'),
        good.replace(b'[["tea","4"],[1.0]]', b'[["tea","4"],["much"]]'),
        Metrics().snapshot(),
    ]


@pytest.mark.parametrize("snapshot", damaged(), ids=range(len(damaged())))
def test_a_damaged_or_foreign_snapshot_is_refused_and_the_one_before_stays(snapshot: bytes) -> None:
    workers, shop = WorkerSnapshots(collect(Shop().registry)), Shop()
    shop.visits.inc(5)
    workers.started(0, 10)
    workers.update(10, shop.snapshot())
    with pytest.raises(SnapshotError):
        workers.update(10, snapshot)
    assert samples(write_text(workers.merged()))["visits_total", frozenset()] == 5


@pytest.mark.parametrize("metric", [Gauge, Summary])
def test_a_metric_that_does_not_say_how_workers_merge_it_is_refused(metric: type[Gauge | Summary]) -> None:
    registry = CollectorRegistry()
    metric("one", "Of which worker?", registry=registry)
    with pytest.raises(TypeError):
        collect(registry)


def test_the_parent_counts_lost_snapshots_and_restarts_and_shows_every_process() -> None:
    parent, worker = ParentMetrics(), Metrics()
    worker.inflight_requests.inc()
    parent.started(0, 1_000_001)  # no process has this id
    parent.update(1_000_001, worker.snapshot())
    parent.update(1_000_001, b"damaged")
    parent.restarted("silent")
    found = samples(parent.text())
    assert found["msr_inflight_requests", frozenset()] == 1
    assert found["msr_metrics_snapshots_lost_total", frozenset()] == 1
    restarts = {
        labels: value for (name, labels), value in found.items() if name == "msr_worker_restarts_total"
    }
    assert restarts == {
        frozenset({("reason", "silent")}): 1,
        frozenset({("reason", "exited")}): 0,
        frozenset({("reason", "start")}): 0,
    }
    processes = {labels for name, labels in found if name == "process_resident_memory_bytes"}
    assert processes == {frozenset({("worker", "parent")})}
