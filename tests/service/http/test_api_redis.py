"""Tests that workers share caches and events through Redis, and go on while it is down."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from moved_clock import MovedClock
from redis_process import RedisServer, start_redis
from served import service_served, simulator_served
from service_process import RunningService, start_service


@pytest.fixture(scope="module")
def two(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service of two workers with caches and events in Redis."""
    redis = start_redis(tmp_path_factory.mktemp("redis"))
    urls = {"redis_url": redis.url, "events_url": redis.url.replace("/0", "/1")}
    try:
        with start_service(bundle_folder, workers="2", redis_timeout_ms="5000", **urls) as service:
            yield service
    finally:
        redis.stop()


def test_an_event_is_seen_by_every_worker(two: RunningService) -> None:
    event = {"user_id": "new", "item_id": "I000", "timestamp": 5}
    assert httpx.post(f"{two.url}/events", json={"events": [event]}).status_code == 200
    for _ in range(20):  # a connection of its own each time, so that both workers answer some
        answer = httpx.post(f"{two.url}/recommend", json={"user_id": "new", "k": 1}).json()
        assert [item["item_id"] for item in answer["items"]] == ["I016"]


def test_an_answer_cached_by_one_worker_serves_the_other_until_its_user_is_forgotten(
    two: RunningService,
) -> None:
    url, body = f"{two.url}/recommend?strategy=s3", {"user_id": "u1"}
    assert httpx.post(url, json=body, timeout=30).json()["lvlm"]["cache"] == "miss"
    while httpx.post(url, json=body, timeout=30).json()["lvlm"]["cache"] == "coalesced":
        time.sleep(0.01)  # it is being written down
    for _ in range(10):
        assert httpx.post(url, json=body, timeout=30).json()["lvlm"]["cache"] == "hit"
    assert httpx.delete(f"{two.url}/users/u1").status_code == 200
    for _ in range(10):  # nothing of a user who was just forgotten is cached
        assert httpx.post(url, json=body, timeout=30).json()["lvlm"]["cache"] == "miss"


@pytest.mark.slow
def test_a_forgotten_user_is_in_the_memory_of_no_worker(bundle_folder: Path) -> None:
    body = {"user_id": "Jane Doe", "history": ["I000", "I001"]}

    def caches(url: str) -> set[str]:
        """What the caches of both workers do for equal requests, each on a connection of its own."""
        answers = (httpx.post(f"{url}/recommend?strategy=s3", json=body, timeout=30) for _ in range(20))
        return {answer.json()["lvlm"]["cache"] for answer in answers}

    with start_service(bundle_folder, workers="2") as service:
        while caches(service.url) != {"hit"}:
            pass
        assert httpx.delete(f"{service.url}/users/Jane Doe").status_code == 200
        while "hit" in caches(service.url):  # until the other worker has heard of it
            time.sleep(0.1)
        assert caches(service.url) == {"miss"}


async def test_no_recommendation_fails_while_redis_is_away(
    bundle_folder: Path, redis_server: RedisServer
) -> None:
    url, body = "/recommend?strategy=s3", {"user_id": "u1"}
    patience = {"redis_timeout_ms": 5_000, "deadline_ms": 60_000}
    async with (
        simulator_served() as simulator,
        service_served(
            bundle_folder, redis_url=redis_server.url, simulator_url=simulator, **patience
        ) as http,
    ):
        assert (await http.post(url, json=body)).json()["lvlm"]["cache"] == "miss"
        redis_server.stop()
        for _ in range(10):
            answer = await http.post(url, json=body)
            assert answer.status_code == 200
            assert answer.json()["served"] == "s3"
            assert answer.json()["lvlm"]["cache"] == "miss"
        assert (await http.get("/health/ready")).json()["degraded"][0].startswith("redis: ")
        error = 'msr_cache_events_total{cache="answers",result="error"}'
        assert error in (await http.get("/metrics")).text
        redis_server.start()
        degraded = True
        while degraded:
            await asyncio.sleep(0.1)
            degraded = bool((await http.get("/health/ready")).json()["degraded"])


async def test_recommendations_go_on_while_the_events_redis_is_away_and_events_are_refused(
    bundle_folder: Path, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    event = {"user_id": "u1", "item_id": "I000", "timestamp": 5}
    async with (
        simulator_served() as simulator,
        service_served(bundle_folder, events_url=redis_server.url, simulator_url=simulator) as http,
    ):
        assert "the events' Redis has no append-only file" in caplog.text
        assert (await http.post("/events", json={"events": [event]})).status_code == 200
        redis_server.stop()
        answer = await http.post("/recommend?strategy=none", json={"user_id": "u1"})
        assert answer.status_code == 200
        assert any("recent events are not included" in warning for warning in answer.json()["warnings"])
        refused = await http.post("/events", json={"events": [event]})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        ready = await http.get("/health/ready")
        assert ready.status_code == 200
        (trouble,) = ready.json()["degraded"]
        assert trouble in ("events: the connection broke", "events: nothing listens at its address")
        assert caplog.text.count("recent events are left out and new ones are refused") == 1


@asynccontextmanager
async def hanging_redis() -> AsyncIterator[str]:
    """Takes every connection and answers none."""

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silence, "127.0.0.1", 0) as server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"


async def test_a_redis_that_hangs_costs_no_request_more_than_the_deadline(
    bundle_folder: Path, clock: MovedClock
) -> None:
    body = {"user_id": "u1", "deadline_ms": 200}
    async with (
        hanging_redis() as redis,
        simulator_served() as simulator,
        service_served(bundle_folder, redis_url=redis, simulator_url=simulator) as http,
    ):
        for _ in range(8):
            began = clock.now()
            answer = await http.post("/recommend?strategy=s3", json=body)
            assert clock.now() - began < 0.2
            assert answer.status_code == 200
            await asyncio.sleep(0.3)


async def test_the_service_starts_without_the_redis_it_was_promised(
    bundle_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        simulator_served() as simulator,
        service_served(bundle_folder, redis_url="redis://127.0.0.1:1/0", simulator_url=simulator) as http,
    ):
        answer = await http.post("/recommend?strategy=s3", json={"user_id": "u1"})
        assert answer.status_code == 200
    assert "Redis: nothing listens at its address; caches miss" in caplog.text
