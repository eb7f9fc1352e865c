"""Tests that the histograms are right with one worker and with two."""

import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from service_process import RunningService, start_service

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(url: str) -> Samples:
    text = httpx.get(f"{url}/metrics", timeout=30).text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(samples: Samples, name: str, /, **labels: str) -> float:
    wanted = labels.items()
    return sum(value for (found, pairs), value in samples.items() if found == name and wanted <= set(pairs))


@pytest.fixture(scope="module")
def one(bundle_folder: Path) -> Iterator[RunningService]:
    with start_service(bundle_folder) as service:
        yield service


@pytest.fixture(scope="module")
def two(bundle_folder: Path) -> Iterator[RunningService]:
    """A service of two workers."""
    with start_service(bundle_folder, workers="2") as service:
        yield service


@pytest.mark.parametrize("workers", ["one", "two"])
def test_every_request_is_counted_once_however_many_workers(
    workers: str, request: pytest.FixtureRequest
) -> None:
    service: RunningService = request.getfixturevalue(workers)

    def ask(number: int) -> int:
        strategy = ("none", "s3", "s9")[number % 3]
        body = {"history": [f"I{number:03d}"], "k": 3}
        return httpx.post(f"{service.url}/recommend?strategy={strategy}", json=body, timeout=30).status_code

    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(ask, range(30)))
    assert statuses == [200, 200, 422] * 10
    samples = scrape(service.url)
    count = "msr_request_duration_seconds_count"
    assert total(samples, count, strategy="none", status="200", model="none", cache="none") == 10
    assert total(samples, count, strategy="s3", status="200", model="sim-gpt-4o", outcome="ok") == 10
    assert total(samples, count, strategy="invalid", status="422", outcome="error") == 10
    assert total(samples, count) == 30
    assert total(samples, "msr_http_requests_total", route="/recommend") == 30
    assert total(samples, "msr_request_duration_seconds_bucket", le="+Inf") == 30
    assert total(samples, "msr_stage_duration_seconds_count", stage="candidates") == 20
    assert total(samples, "msr_lvlm_call_duration_seconds_count", provider="simulator") == 10
    assert total(samples, "msr_lvlm_time_to_first_token_seconds_count") == 10
    assert total(samples, "msr_lvlm_tokens_total", direction="input") > 0
    assert total(samples, "msr_inflight_requests") == 0
    assert total(samples, "msr_bundle_info", name="blocks-raw", model="morec") == 1
    assert total(samples, "msr_cache_events_total", cache="answers", result="miss") == 10
    of = {dict(labels)["worker"] for name, labels in samples if name == "process_resident_memory_bytes"}
    assert of == ({"0"} if workers == "one" else {"0", "1", "parent"})


def test_no_label_ever_holds_a_user_or_an_item(one: RunningService) -> None:
    for strategy in ("none", "s3", "s5"):
        httpx.post(f"{one.url}/recommend?strategy={strategy}", json={"user_id": "u1"}, timeout=30)
    httpx.post(f"{one.url}/recommend?strategy=secret-u1", json={"user_id": "u1"})
    httpx.get(f"{one.url}/users/u1/history")
    httpx.get(f"{one.url}/items/I001")
    httpx.get(f"{one.url}/secret-u1")
    text = httpx.get(f"{one.url}/metrics").text
    assert not re.search(r'="/?(?:.*/)?(u\d+|I\d+|secret-u1)[/"]', text)


def test_workers_that_died_leave_no_request_in_flight_and_no_counter_goes_down(two: RunningService) -> None:
    before = two.workers
    assert len(before) == 2
    with two.silent_simulator(), ThreadPoolExecutor(8) as pool:
        futures = [
            pool.submit(
                httpx.post,
                f"{two.url}/recommend?strategy=s3&cache=off",
                json={"user_id": "u1", "deadline_ms": 60_000},
                timeout=60,
            )
            for _ in range(8)
        ]
        while total(counted := scrape(two.url), "msr_inflight_requests") < 8:
            time.sleep(0.05)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        for future in futures:
            future.exception()
    while not answers(f"{two.url}/health/ready"):  # the parent starts new workers
        time.sleep(0.1)
    after = scrape(two.url)
    assert total(after, "msr_inflight_requests") == 0
    for name in ("msr_request_duration_seconds_count", "msr_http_requests_total", "msr_lvlm_tokens_total"):
        assert total(after, name) >= total(counted, name) > 0
    assert total(after, "msr_worker_restarts_total", reason="exited") == 2


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
