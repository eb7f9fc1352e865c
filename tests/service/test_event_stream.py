"""A recommendation that is watched: candidates at once, items as they are decided, the answer at the end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_process import RunningService, start_service
from simulator_process import start_simulator

from service.bundle import open_bundle
from service.event_stream import EventStream
from service.recommender import Recommendation
from service.schemas import RecommendAnswer

BODY = {"user_id": "u1", "k": 10}
Told = list[tuple[str, dict[str, Any], float]]


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    with start_simulator(profile="fast", ttft=0.4, tokens_per_second=60) as url:
        yield url


@pytest.fixture(scope="module")
def service(bundle_folder: Path, simulator: str) -> Iterator[RunningService]:
    with start_service(bundle_folder, simulator_url=simulator) as service:
        yield service


def watch(url: str, query: str = "strategy=s3", body: dict[str, Any] = BODY) -> Told:
    """Kind, content and arrival of every event."""
    told: Told = []
    headers = {"accept": "text/event-stream"}
    with (
        httpx.Client(timeout=30, trust_env=False) as http,
        http.stream("POST", f"{url}/recommend?{query}", json=body, headers=headers) as response,
    ):
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        kind = ""
        for line in response.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                told.append((kind, json.loads(line.removeprefix("data: ")), time.monotonic()))
    return told


def test_the_candidates_come_first_then_the_items_as_they_are_decided_then_the_answer(
    service: RunningService,
) -> None:
    told = watch(service.url, "strategy=s3&explain=true&cache=off")
    kinds = [kind for kind, _, _ in told]
    assert kinds == ["candidates", *["item"] * 10, "explanation", "answer"]
    (_, candidates, first), (_, answer, last) = told[0], told[-1]
    assert [item["base_rank"] for item in candidates["items"]] == list(range(1, 11))
    items = [content for kind, content, _ in told if kind == "item"]
    assert items == answer["items"]
    assert answer["explanation"] == told[-2][1]["explanation"]
    RecommendAnswer.model_validate(answer, strict=True)
    decided = [at for kind, _, at in told if kind == "item"]
    assert decided[0] - first > 0.2  # the model took its time, and the candidates did not wait for it
    assert last - decided[0] > 0.3  # the first item did not wait for the others


def test_an_answer_from_the_cache_is_told_the_same_way(service: RunningService) -> None:
    body = {"user_id": "u2", "k": 5}
    first, second = (watch(service.url, body=body) for _ in range(2))
    assert second[-1][1]["lvlm"]["cache"] == "hit"
    assert [kind for kind, _, _ in second] == [kind for kind, _, _ in first]
    assert second[-1][1]["items"] == first[-1][1]["items"]


def test_without_an_lvlm_there_are_candidates_and_the_answer(service: RunningService) -> None:
    told = watch(service.url, "strategy=none")
    assert [kind for kind, _, _ in told] == ["candidates", "answer"]
    assert told[0][1]["items"] == told[1][1]["items"]


def test_at_the_deadline_the_answer_holds_what_was_told_and_the_candidate_order(
    service: RunningService,
) -> None:
    told = watch(service.url, body={"user_id": "u3", "k": 10, "deadline_ms": 900})
    answer = told[-1][1]
    items = [content for kind, content, _ in told if kind == "item"]
    assert answer["outcome"] == "partial"
    assert 0 < len(items) < 10
    assert answer["items"][: len(items)] == items


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [("strategy=s3", {}, 422), ("strategy=s9", BODY, 422), ("strategy=s3&model=no", BODY, 422)],
)
def test_a_refused_request_is_a_plain_problem(
    service: RunningService, query: str, body: dict[str, Any], status: int
) -> None:
    headers = {"accept": "text/event-stream"}
    refused = httpx.post(f"{service.url}/recommend?{query}", json=body, headers=headers, trust_env=False)
    assert refused.status_code == status
    assert refused.headers["content-type"] == "application/problem+json"


def test_a_client_that_leaves_does_not_end_the_call_that_fills_the_cache(service: RunningService) -> None:
    body = {"user_id": "u4", "k": 5}
    with (
        httpx.Client(timeout=30, trust_env=False) as http,
        http.stream(
            "POST",
            f"{service.url}/recommend?strategy=s3",
            json=body,
            headers={"accept": "text/event-stream"},
        ) as response,
    ):
        next(response.iter_lines())
    end = time.monotonic() + 10
    while time.monotonic() < end:
        time.sleep(0.1)
        answer = httpx.post(
            f"{service.url}/recommend?strategy=s3", json={**body, "deadline_ms": 0}, trust_env=False
        ).json()
        if answer["lvlm"]["cache"] == "hit":
            break
    assert answer["lvlm"]["cache"] == "hit"


def test_a_client_that_leaves_is_counted_as_gone_and_its_call_ends(
    service: RunningService, simulator: str
) -> None:
    query = "strategy=s4&cache=off"  # off: a call that is nobody's but this request's
    for _ in range(5):
        with (
            httpx.Client(timeout=30, trust_env=False) as http,
            http.stream(
                "POST",
                f"{service.url}/recommend?{query}",
                json=BODY,
                headers={"accept": "text/event-stream"},
            ) as response,
        ):
            assert response.status_code == 200  # and not a line of the body is read
    end = time.monotonic() + 2
    while httpx.get(f"{simulator}/health", trust_env=False).json()["in_flight"]:
        assert time.monotonic() < end
        time.sleep(0.05)
    text = httpx.get(f"{service.url}/metrics", trust_env=False).text
    gone = [
        line for line in text.splitlines() if "duration_seconds_count" in line and 'strategy="s4"' in line
    ]
    assert [('status="499"' in line, line.split()[-1]) for line in gone] == [(True, "5.0")]


async def test_a_quiet_stream_says_that_it_is_still_there(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.event_stream.QUIET", 0.05)
    stream = EventStream(open_bundle(bundle_folder).catalogue, "r")
    stream._tell("candidates", {})

    async def recommending() -> Recommendation:
        await asyncio.sleep(30)
        raise AssertionError

    await stream.begin(recommending())
    events = stream.read()
    assert (await anext(events)).startswith(b"event: candidates")
    assert (await anext(events)).startswith(b": ")
    stream.close()


def test_the_watched_are_in_the_histogram_with_their_whole_time(service: RunningService) -> None:
    watch(service.url, "strategy=s1&cache=off")
    text = httpx.get(f"{service.url}/metrics", trust_env=False).text
    line = next(
        line
        for line in text.splitlines()
        if line.startswith("msr_request_duration_seconds_sum") and 'strategy="s1"' in line
    )
    assert 'status="200"' in line
    assert float(line.split()[-1]) > 0.6
