"""Tests the events of a recommendation: candidates first, then items as they are placed, then the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from controlled_provider import eventually
from moved_clock import MovedClock
from served import service_served, simulator_served

from service.http.event_stream import EventStream
from service.http.links import Links
from service.http.schemas import RecommendAnswer
from service.recommender import Recommendation
from service.simulator.latency_profiles import Fast

BODY = {"user_id": "u1", "k": 10}
WATCHED = {"accept": "text/event-stream"}
Told = list[tuple[str, dict[str, Any], float]]


@pytest.fixture
async def simulator(clock: MovedClock) -> AsyncIterator[str]:
    async with simulator_served(Fast(0.4, 60)) as url:
        yield url


@pytest.fixture
async def http(bundle_folder: Path, simulator: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service."""
    async with service_served(bundle_folder, simulator_url=simulator) as http:
        yield http


async def watch(
    http: httpx.AsyncClient, clock: MovedClock, query: str = "strategy=s3", body: dict[str, Any] = BODY
) -> Told:
    """Kind, content and arrival of every event."""
    told: Told = []
    async with http.stream("POST", f"/recommend?{query}", json=body, headers=WATCHED) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        kind = ""
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                told.append((kind, json.loads(line.removeprefix("data: ")), clock.now()))
    return told


async def test_the_candidates_come_first_then_the_items_as_they_are_decided_then_the_answer(
    http: httpx.AsyncClient, clock: MovedClock
) -> None:
    told = await watch(http, clock, "strategy=s3&explain=true&cache=off")
    kinds = [kind for kind, _, _ in told]
    assert kinds == ["candidates", *["item"] * 10, "explanation", "answer"]
    (_, candidates, first), (_, answer, last) = told[0], told[-1]
    assert [item["base_rank"] for item in candidates["items"]] == list(range(1, 11))
    items = [content for kind, content, _ in told if kind == "item"]
    assert items == answer["items"]
    assert answer["explanation"] == told[-2][1]["explanation"]
    RecommendAnswer.model_validate(answer, strict=True)
    decided = [at for kind, _, at in told if kind == "item"]
    assert decided[0] - first > 0.35  # the model took its time, and the candidates did not wait for it
    assert last - decided[0] > 0.3  # the first item did not wait for the others


async def test_an_answer_from_the_cache_is_streamed_in_the_same_way(
    http: httpx.AsyncClient, clock: MovedClock
) -> None:
    body = {"user_id": "u2", "k": 5}
    first, second = [await watch(http, clock, body=body) for _ in range(2)]
    assert second[-1][1]["lvlm"]["cache"] == "hit"
    assert [kind for kind, _, _ in second] == [kind for kind, _, _ in first]
    assert second[-1][1]["items"] == first[-1][1]["items"]


async def test_without_an_lvlm_there_are_candidates_and_the_answer(
    http: httpx.AsyncClient, clock: MovedClock
) -> None:
    told = await watch(http, clock, "strategy=none")
    assert [kind for kind, _, _ in told] == ["candidates", "answer"]
    assert told[0][1]["items"] == told[1][1]["items"]


async def test_at_the_deadline_the_answer_holds_the_items_sent_and_the_candidate_order(
    http: httpx.AsyncClient, clock: MovedClock
) -> None:
    told = await watch(http, clock, body={"user_id": "u3", "k": 10, "deadline_ms": 600})
    answer = told[-1][1]
    items = [content for kind, content, _ in told if kind == "item"]
    assert answer["outcome"] == "partial"
    assert 0 < len(items) < 10
    assert answer["items"][: len(items)] == items
    assert told[-1][2] - told[0][2] <= 0.6


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [("strategy=s3", {}, 422), ("strategy=s9", BODY, 422), ("strategy=s3&model=no", BODY, 422)],
)
async def test_a_refused_request_is_a_plain_problem(
    http: httpx.AsyncClient, query: str, body: dict[str, Any], status: int
) -> None:
    refused = await http.post(f"/recommend?{query}", json=body, headers=WATCHED)
    assert refused.status_code == status
    assert refused.headers["content-type"] == "application/problem+json"


async def test_a_client_that_leaves_does_not_end_the_call_that_fills_the_cache(
    http: httpx.AsyncClient,
) -> None:
    body = {"user_id": "u4", "k": 5}
    async with http.stream("POST", "/recommend?strategy=s3", json=body, headers=WATCHED) as response:
        await anext(response.aiter_lines())

    async def kept() -> bool:
        answer = await http.post("/recommend?strategy=s3", json={**body, "deadline_ms": 0})
        found: bool = answer.json()["lvlm"]["cache"] == "hit"
        return found

    await eventually(kept)


async def test_a_client_that_leaves_is_counted_as_gone_and_its_call_ends(
    http: httpx.AsyncClient, simulator: str
) -> None:
    query = "strategy=s4&cache=off"  # off: a call that belongs to this request alone
    for _ in range(5):
        async with http.stream("POST", f"/recommend?{query}", json=BODY, headers=WATCHED) as response:
            assert response.status_code == 200  # and not a line of the body is read

    async def ended() -> bool:
        return not (await http.get(f"{simulator}/health")).json()["in_flight"]

    await eventually(ended, seconds=0.3)  # before an answer could have begun
    text = (await http.get("/metrics")).text
    gone = [
        line for line in text.splitlines() if "duration_seconds_count" in line and 'strategy="s4"' in line
    ]
    assert [('status="499"' in line, line.split()[-1]) for line in gone] == [(True, "5.0")]


@pytest.mark.usefixtures("clock")
async def test_a_quiet_stream_says_that_it_is_still_there() -> None:
    stream = EventStream("r", Links())
    stream._send_json("candidates", {})

    async def recommending() -> Recommendation:
        await asyncio.sleep(60)
        raise AssertionError

    await stream.start(recommending())
    events = stream.read()
    assert (await anext(events)).startswith(b"event: candidates")
    assert (await anext(events)).startswith(b": ")
    stream.close()


async def test_streams_are_in_the_histogram_with_their_whole_time(
    http: httpx.AsyncClient, clock: MovedClock
) -> None:
    began = clock.now()
    await watch(http, clock, "strategy=s1&cache=off")
    took = clock.now() - began
    text = (await http.get("/metrics")).text
    line = next(
        line
        for line in text.splitlines()
        if line.startswith("msr_request_duration_seconds_sum") and 'strategy="s1"' in line
    )
    assert 'status="200"' in line
    assert float(line.split()[-1]) == pytest.approx(took)
