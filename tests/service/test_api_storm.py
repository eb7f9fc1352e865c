"""A vendor has a bad quarter of a minute, and nobody who asks the service waits for it or goes without."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from service_process import start_service
from simulator_process import start_simulator

from service.lvlm.breaker import FIRST_REST, VERDICTS

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
"""Longer than the breaker needs to open, shorter than it then rests."""


@dataclass(frozen=True)
class Visit:
    """One request, and how the breaker stood after it."""

    seconds: float
    answer: dict[str, Any]
    open: bool

    @property
    def outcome(self) -> str:
        outcome: str = self.answer["outcome"]
        return outcome


def trickle(http: httpx.Client) -> Iterator[Visit]:
    """Different people, one after the other."""
    for number in range(200):
        began = time.monotonic()
        history = [f"I{number % 48:03d}", f"I{number // 48 + 1:03d}"]
        body = {"history": history, "k": 5, "deadline_ms": DEADLINE_MS}
        response = http.post("/recommend?strategy=s3", json=body)
        seconds = time.monotonic() - began
        assert response.status_code == 200, response.text
        yield Visit(seconds, response.json(), breaker_open(http))
        time.sleep(max(0.0, began + EVERY - time.monotonic()))


def breaker_open(http: httpx.Client) -> bool:
    return any(
        sample.value
        for family in text_string_to_metric_families(http.get("/metrics").text)
        for sample in family.samples
        if sample.name == "msr_lvlm_breaker_open"
    )


def test_in_a_storm_and_an_outage_every_answer_comes_in_time_and_after_them_the_lvlm_is_back(
    bundle_folder: Path,
) -> None:
    visits: list[Visit] = []
    with (
        start_simulator() as simulator,
        start_service(bundle_folder, simulator_url=simulator) as service,
        httpx.Client(base_url=service.url, timeout=10, trust_env=False) as http,
    ):
        assert httpx.put(f"{simulator}/faults", json=SCRIPT, trust_env=False).status_code == 204
        end = time.monotonic() + OUTAGE + 3 * FIRST_REST
        for visit in trickle(http):
            visits.append(visit)
            back = len(visits) > 2 * HEALTHY and all(late.outcome == "ok" for late in visits[-HEALTHY:])
            if back or time.monotonic() > end:
                break
        calls = httpx.get(f"{simulator}/ledger", trust_env=False).json()
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
    assert VERDICTS <= faults.count("500") <= 2 * VERDICTS  # and then it was left alone,
    assert sum(visit.open for visit in without) > VERDICTS  # though people went on asking
