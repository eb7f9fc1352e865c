"""Tests that every request is answered in time while a vendor first limits the rate and then fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
from moved_clock import MovedClock
from prometheus_client.parser import text_string_to_metric_families
from served import service_served, simulator_served

from service.lvlm.calls.circuit_breaker import FIRST_OPEN, MIN_ATTEMPTS

DEADLINE_MS = 1500
EVERY = 0.1
"""Seconds from one request to the next."""

HEALTHY, REFUSED, OUTAGE = 10, 10, 4.0
SCRIPT = {
    "phases": [
        {"fault": None, "calls": HEALTHY},
        {"fault": "429", "retry_after": 3, "calls": REFUSED},
        {"fault": "500", "seconds": OUTAGE},
    ]
}
"""The outage is longer than the breaker needs to open, and shorter than it then stays open."""


@dataclass(frozen=True)
class Visit:
    """One request, and whether the breaker was open after it."""

    seconds: float
    answer: dict[str, Any]
    open: bool

    @property
    def outcome(self) -> str:
        outcome: str = self.answer["outcome"]
        return outcome


async def trickle(http: httpx.AsyncClient, clock: MovedClock) -> AsyncIterator[Visit]:
    """Yields requests of different users, one after the other."""
    for number in range(200):
        began = clock.now()
        history = [f"I{number % 48:03d}", f"I{number // 48 + 1:03d}"]
        body = {"history": history, "k": 5, "deadline_ms": DEADLINE_MS}
        response = await http.post("/recommend?strategy=s3", json=body)
        seconds = clock.now() - began
        assert response.status_code == 200, response.text
        yield Visit(seconds, response.json(), await breaker_open(http))
        await asyncio.sleep(max(0.0, began + EVERY - clock.now()))


async def breaker_open(http: httpx.AsyncClient) -> bool:
    metrics = (await http.get("/metrics")).text
    return any(
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == "msr_lvlm_breaker_open"
    )


async def test_in_a_storm_and_an_outage_every_answer_comes_in_time_and_after_them_the_lvlm_is_back(
    bundle_folder: Path, clock: MovedClock
) -> None:
    visits: list[Visit] = []
    async with (
        simulator_served() as simulator,
        service_served(bundle_folder, simulator_url=simulator) as http,
    ):
        assert (await http.put(f"{simulator}/faults", json=SCRIPT)).status_code == 204
        end = clock.now() + OUTAGE + 3 * FIRST_OPEN
        async for visit in trickle(http, clock):
            visits.append(visit)
            back = len(visits) > 2 * HEALTHY and all(late.outcome == "ok" for late in visits[-HEALTHY:])
            if back or clock.now() > end:
                break
        calls = (await http.get(f"{simulator}/ledger")).json()
    assert max(visit.seconds for visit in visits) < DEADLINE_MS / 1000
    assert {len(visit.answer["items"]) for visit in visits} == {5}
    assert [outcome for outcome, _ in groupby(visit.outcome for visit in visits)] == [
        "ok",
        "fallback_provider",
        "ok",
    ]
    assert [outcome for outcome, _ in groupby(visit.open for visit in visits)] == [False, True, False]
    without = [visit for visit in visits if visit.outcome != "ok"]
    faults = [call["fault"] for call in calls if call["fault"]]
    assert faults.count("429") == REFUSED
    assert sum(not visit.open for visit in without) > REFUSED  # one call each: the vendor said "not yet"
    assert MIN_ATTEMPTS <= faults.count("500") <= 2 * MIN_ATTEMPTS  # and then it was left alone,
    assert sum(visit.open for visit in without) > MIN_ATTEMPTS  # though people went on asking
