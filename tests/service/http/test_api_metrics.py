"""Tests that the histograms are right with one worker and with two."""

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis_process import RedisServer
from service_process import start_service

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


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_request_is_counted_once_however_many_workers(
    workers: str, bundle_folder: Path, redis_server: RedisServer
) -> None:
    with start_service(
        bundle_folder, workers=workers, redis_url=redis_server.url, redis_timeout_ms="5000"
    ) as service:

        def ask(number: int) -> int:
            strategy = ("none", "s3", "s9")[number % 3]
            body = {"history": [f"I{number:03d}"], "k": 3}
            return httpx.post(
                f"{service.url}/recommend?strategy={strategy}", json=body, timeout=30
            ).status_code

        with ThreadPoolExecutor(6) as pool:
            statuses = list(pool.map(ask, range(30)))
        assert statuses == [200, 200, 422] * 10
        samples = scrape(service.url)
        count = "msr_request_duration_seconds_count"
        assert total(samples, count, strategy="none", status="200", model="none", cache="none") == 10
        assert total(samples, count, strategy="s3", status="200", model="sim-gpt-4o", outcome="ok") == 10
        assert total(samples, count, strategy="invalid", status="422", outcome="error") == 10
        assert total(samples, count) == 30
        assert total(samples, "msr_request_duration_seconds_bucket", le="+Inf") == 30
        assert total(samples, "msr_stage_duration_seconds_count", stage="candidates") == 20
        assert total(samples, "msr_lvlm_call_duration_seconds_count", provider="simulator") == 10
        assert total(samples, "msr_lvlm_time_to_first_token_seconds_count") == 10
        assert total(samples, "msr_lvlm_tokens_total", direction="input") > 0
        assert total(samples, "msr_inflight_requests") == 0
        assert total(samples, "msr_bundle_info", name="blocks-raw", model="morec") == 1
        assert total(samples, "msr_cache_events_total", cache="answers", result="miss") == 10


def test_no_label_ever_holds_a_user_or_an_item(bundle_folder: Path) -> None:
    with start_service(bundle_folder) as service:
        for strategy in ("none", "s3", "s5"):
            httpx.post(f"{service.url}/recommend?strategy={strategy}", json={"user_id": "u1"}, timeout=30)
        httpx.post(f"{service.url}/recommend?strategy=secret-u1", json={"user_id": "u1"})
        text = httpx.get(f"{service.url}/metrics").text
    assert not re.search(r'="(u\d+|I\d+|secret-u1)"', text)


def test_a_worker_that_died_leaves_no_request_in_flight(
    bundle_folder: Path, redis_server: RedisServer
) -> None:
    with start_service(
        bundle_folder, workers="2", redis_url=redis_server.url, redis_timeout_ms="5000"
    ) as service:
        before = service.workers
        assert len(before) == 2
        with service.silent_simulator(), ThreadPoolExecutor(8) as pool:
            futures = [
                pool.submit(
                    httpx.post,
                    f"{service.url}/recommend?strategy=s3&cache=off",
                    json={"user_id": "u1", "deadline_ms": 60_000},
                    timeout=60,
                )
                for _ in range(8)
            ]
            while total(scrape(service.url), "msr_inflight_requests") < 8:
                time.sleep(0.05)
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            for future in futures:
                future.exception()
        while not answers(f"{service.url}/health/ready"):  # the supervisor starts new workers
            time.sleep(0.1)
        assert total(scrape(service.url), "msr_inflight_requests") == 0


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
