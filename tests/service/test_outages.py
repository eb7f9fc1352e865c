"""Tests the log of an outage: at its beginning, at growing intervals, and at its end."""

from __future__ import annotations

import json
import logging
import random
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from controlled_provider import ControlledProvider, fails, says
from fastapi import FastAPI
from lvlm_parts import open_gateway
from redis_process import RedisServer
from service_process import start_service

from service.http.middleware.observation import Observation
from service.logs import JsonFormatter, TextFormatter
from service.lvlm.provider_attempt import Ending
from service.lvlm.providers.base import Call, FailureKind, Prompt, Text
from service.metrics import Metrics
from service.outages import FIRST_PAUSE, LONGEST_PAUSE, NEW_OUTAGE_AFTER, RECOVERY_SECONDS, Outage
from service.stores import redis as redis_stores
from service.stores.base import StoreError
from service.stores.redis import RedisCache, RedisConnection

log = logging.getLogger("service.test")
HOUR = 3_600
CALL = Call(Prompt("Rank.", (Text("data"),), None, "1"), "gpt-4o", 100)


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticking() -> Clock:
    return Clock()


@pytest.fixture
def outage(ticking: Clock) -> Outage:
    return Outage("it", log, clock=ticking)


# --- when a line is written -----------------------------------------------------------------------------


def test_the_first_failure_is_said_at_once_and_the_next_ones_with_their_number(
    outage: Outage, ticking: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outage.failed("it failed: %s", "no")
    assert caplog.messages == ["it failed: no"]
    for _ in range(HOUR):
        ticking.now += 1
        outage.failed("it failed: %s", "no")
    left_out = [f" ({number} more failures since the last line)" for number in (59, 119, 239, 479, 599)]
    assert caplog.messages[1:6] == [f"it failed: no{more}" for more in left_out]
    assert len(caplog.messages) == 1 + 4 + (HOUR - 15 * FIRST_PAUSE) // LONGEST_PAUSE


def test_what_works_again_is_said_once_with_the_length_of_the_outage(
    outage: Outage, ticking: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(30):
        outage.failed("it failed")
        ticking.now += 1
    for _ in range(100):
        outage.works()
        ticking.now += 1
    assert caplog.messages == ["it failed", "it works again, after 30 s and 30 failures"]


def test_one_success_between_failures_ends_no_outage(
    outage: Outage, ticking: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(50):
        outage.failed("it failed")
        outage.works()
        ticking.now += RECOVERY_SECONDS / 2
        outage.works()
    assert not any("again" in message for message in caplog.messages)


def test_a_new_outage_is_news(outage: Outage, ticking: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        outage.failed("it failed")
        ticking.now += NEW_OUTAGE_AFTER
        outage.works()
    assert caplog.messages == ["it failed", "it works again, after 300 s and 1 failures"] * 3


def test_whatever_it_does_it_writes_at_most_60_lines_in_any_hour(
    ticking: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    most = 0
    for seed in range(300):
        chance, outage, end = random.Random(seed), Outage("it", log, clock=ticking), ticking.now + 3 * HOUR
        pace, share = 10 ** chance.uniform(-0.5, 2.7), chance.random()
        caplog.clear()
        times: list[float] = []
        while ticking.now < end:
            ticking.now += chance.expovariate(1 / pace)
            if chance.random() < share:
                outage.failed("it failed")
            else:
                outage.works()
            times += [ticking.now] * (len(caplog.records) - len(times))
        most = max([most, *(sum(at <= later < at + HOUR for later in times) for at in times)])
    assert 10 < most <= 60


def test_only_the_first_line_of_an_outage_brings_the_traceback(
    outage: Outage, ticking: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        outage.failed("it broke", error=KeyError("x"))
        ticking.now += FIRST_PAUSE
    assert [bool(record.exc_info) for record in caplog.records] == [True, False]


# --- providers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FailureKind.RATE_LIMITED, FailureKind.REQUEST, FailureKind.SERVER])
async def test_a_provider_that_fails_for_an_hour_writes_at_most_60_lines(
    kind: FailureKind, ticking: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    provider = ControlledProvider(*[fails(kind)] * HOUR, says("abc"))
    gateway = open_gateway([provider], clock=ticking)
    for second in range(HOUR):
        assert (await gateway.call("fake", CALL, 5)).ending is not Ending.FINISHED
        assert second or caplog.messages == ["a call to fake/gpt-4o failed: no"]
        ticking.now += 1
    assert 1 < len(caplog.records) <= 60 or kind is FailureKind.SERVER  # the breaker leaves that one alone
    assert len(caplog.records) <= 60


async def test_a_provider_that_answers_again_is_said_to(
    ticking: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    provider = ControlledProvider(*[fails(FailureKind.RATE_LIMITED)] * 5, says("abc"))
    gateway = open_gateway([provider], clock=ticking)
    for _ in range(30):
        await gateway.call("fake", CALL, 5)
        ticking.now += 1
    assert caplog.messages[-1] == "fake/gpt-4o works again, after 5 s and 5 failures"
    assert len(caplog.messages) == 2


async def test_each_model_has_its_own_lines(ticking: Clock, caplog: pytest.LogCaptureFixture) -> None:
    gateway = open_gateway([ControlledProvider(fails(FailureKind.RATE_LIMITED))], clock=ticking)
    for model in ("gpt-4o", "gpt-4o-mini", "gpt-4o"):
        await gateway.call("fake", replace(CALL, model=model), 5)
    assert caplog.messages == [f"a call to fake/{model} failed: no" for model in ("gpt-4o", "gpt-4o-mini")]


async def test_a_fault_inside_a_provider_is_said_with_its_traceback_and_bounded(
    ticking: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = open_gateway([ControlledProvider([KeyError("x")])], clock=ticking)
    for _ in range(100):
        await gateway.call("fake", CALL, 5)
        ticking.now += 1
    assert caplog.messages[0] == "a call to fake/gpt-4o broke"
    assert caplog.records[0].exc_info
    assert len(caplog.records) <= 3


# --- Redis ----------------------------------------------------------------------------------------------


async def test_a_redis_that_is_away_for_an_hour_writes_at_most_60_lines_and_is_said_to_be_back(
    redis_server: RedisServer,
    ticking: Clock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_stores, "PAUSE_AFTER_FAILURE", 0.0)  # ask it every time
    redis_server.stop()
    connection = RedisConnection(redis_server.url, 5.0, ticking)
    cache = RedisCache(connection)
    for second in range(HOUR):
        with pytest.raises(StoreError):
            await cache.get("x")
        assert second or caplog.messages[0].startswith("Redis: nothing listens at its address; caches miss")
        ticking.now += 1
    assert 1 < len(caplog.records) <= 60
    redis_server.start()
    for _ in range(20):
        await cache.get("x")
        ticking.now += 1
    assert caplog.messages[-1] == "Redis works again, after 3600 s and 3600 failures"
    await connection.close()


def test_all_that_a_service_does_without_redis_is_one_line_a_minute(
    bundle_folder: Path, redis_server: RedisServer
) -> None:
    with (
        start_service(bundle_folder, redis_url=redis_server.url, log_format="json") as service,
        httpx.Client(base_url=service.url, timeout=30, trust_env=False) as client,
    ):
        first = {"x-request-id": "before"}
        body: dict[str, object] = {"user_id": "u1"}
        assert client.post("/recommend?strategy=s3", json=body, headers=first).status_code == 200
        redis_server.stop()
        began = time.monotonic()
        for number in range(30):
            strategy = ("none", "s3", "s4", "s5")[number % 4]
            body = {"user_id": f"u{number % 5 + 1}", "k": number % 7 + 1}
            sent = {"x-request-id": f"request-{number}"}
            assert client.post(f"/recommend?strategy={strategy}", json=body, headers=sent).status_code == 200
        lines = [json.loads(line) for line in service.log.splitlines() if line.startswith("{")]
    told = [line for line in lines if line["level"] in ("warning", "error")]
    minutes = int((time.monotonic() - began) / FIRST_PAUSE)
    assert {line["message"][:7] for line in told} == {"Redis: "}
    assert len(told) <= 1 + minutes
    # The first that asks for what a cache may have; or what the one before still had to write.
    assert told[0]["request_id"] in ("request-1", "before")


# --- the request's id -----------------------------------------------------------------------------------


async def test_every_line_of_a_request_names_its_id(caplog: pytest.LogCaptureFixture) -> None:
    app, formatters = FastAPI(), (TextFormatter(), JsonFormatter())
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.extend(formatter.format(record) for formatter in formatters)

    @app.get("/")
    async def fail() -> None:
        log.warning("something failed")

    log.addHandler(handler := Lines())
    try:
        transport = httpx.ASGITransport(Observation(app, Metrics()))
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            await client.get("/", headers={"x-request-id": "mine"})
            log.warning("outside")
    finally:
        log.removeHandler(handler)
    text, structured, *outside = lines
    assert text == "WARNING something failed request_id=mine"
    assert json.loads(structured)["request_id"] == "mine"
    assert not any("request_id" in line for line in outside)
