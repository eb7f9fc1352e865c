"""Tests of ``POST /events`` and ``DELETE /users/{user_id}``: what is refused, kept, seen and forgotten."""

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import service_served
from service_process import RunningService, start_service

from service.stores import sqlite_file
from service.stores.base import StoreError
from service.stores.sqlite_events import SqliteEvents
from service.stores.sqlite_file import events_file, writer_lock

UNUSED = "http://127.0.0.1:9"
"""Address of a simulator that no test here asks."""


def event(user_id: str, item: int = 0, timestamp: int = 1, **more: Any) -> dict[str, Any]:
    return {"user_id": user_id, "item_id": f"I{item:03d}", "timestamp": timestamp, **more}


async def sample(http: httpx.AsyncClient, name: str) -> float:
    """The value of one line of the metrics."""
    (value,) = re.findall(rf"^{re.escape(name)} (\S+)$", (await http.get("/metrics")).text, flags=re.M)
    return float(value)


async def test_an_answer_says_how_many_events_are_new_and_the_metrics_count_them(bundle_folder: Path) -> None:
    async with service_served(bundle_folder, simulator_url=UNUSED) as http:
        batch = [event("u", 1), event("u", 1), event("u", 2, event_id="x"), event("u", 3, event_id="x")]
        answer = await http.post("/events", json={"events": batch})
        assert answer.json() == {"stored": 2, "repeated": 2, "dropped": 0}
        assert (await http.post("/events", json={"events": batch})).json()["stored"] == 0
        many = [event("u", at % 48, 10 + at) for at in range(1_000)]
        assert (await http.post("/events", json={"events": many})).json()["dropped"] == 0
        later = [event("u", at % 48, 2_000 + at) for at in range(1_000)]
        assert (await http.post("/events", json={"events": later})).json()["dropped"] == 2
        assert await sample(http, 'msr_events_total{result="stored"}') == 2_002
        assert await sample(http, 'msr_events_total{result="repeated"}') == 6
        assert await sample(http, 'msr_events_total{result="dropped"}') == 2
        assert await sample(http, 'msr_http_requests_total{route="/events",status="200"}') == 4


async def test_times_beyond_tomorrow_are_refused_by_their_place_in_the_batch(bundle_folder: Path) -> None:
    async with service_served(bundle_folder, simulator_url=UNUSED) as http:
        now = int(time.time())
        batch = [event("u", 1, now + 80_000), event("u", 2, now + 90_000), event("u", 3, 4_102_444_800)]
        answer = await http.post("/events", json={"events": batch})
        assert answer.status_code == 422
        assert f"events.1 ({now + 90_000}), events.2 (4102444800)" in answer.json()["detail"]
        assert "events.0" not in answer.json()["detail"]
        assert (await http.get("/users/u/history")).status_code == 404
        assert (await http.post("/events", json={"events": batch[:1]})).status_code == 200


async def test_a_full_store_is_a_507_problem_for_new_users_alone(bundle_folder: Path) -> None:
    async with service_served(bundle_folder, simulator_url=UNUSED, events_max_users=1) as http:
        assert (await http.post("/events", json={"events": [event("u")]})).status_code == 200
        answer = await http.post("/events", json={"events": [event("u", 1), event("v")]})
        assert answer.status_code == 507
        assert answer.headers["content-type"] == "application/problem+json"
        assert "MSR_EVENTS_MAX_USERS" in answer.json()["detail"]
        assert len((await http.get("/users/u/history")).json()["items"]) == 1
        assert (await http.post("/events", json={"events": [event("u", 1)]})).status_code == 200
        assert await sample(http, 'msr_http_requests_total{route="/events",status="507"}') == 1
        assert await sample(http, "msr_events_users_limit") == 1


async def test_a_store_that_cannot_be_written_is_a_503_problem_and_histories_go_on(
    bundle_folder: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with service_served(bundle_folder, simulator_url=UNUSED) as http:
        assert (await http.post("/events", json={"events": [event("u")]})).status_code == 200
        monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.01)
        lock = writer_lock(events_file(data_folder / "events", "blocks"))
        assert lock.take()
        for refused in (
            await http.post("/events", json={"events": [event("u", 1)]}),
            await http.delete("/users/u"),
        ):
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "2"
            assert "send it again" in refused.json()["detail"]
        assert len((await http.get("/users/u/history")).json()["items"]) == 1
        lock.close()
        assert (await http.post("/events", json={"events": [event("u", 1)]})).status_code == 200
        assert await sample(http, 'msr_http_requests_total{route="/events",status="503"}') == 1


async def test_a_deleted_user_is_unknown_and_one_of_the_bundle_has_the_bundle_s_history_again(
    bundle_folder: Path,
) -> None:
    async with service_served(bundle_folder, simulator_url=UNUSED) as http:
        before = (await http.get("/users/u1/history")).json()
        await http.post("/events", json={"events": [event("u1"), event("new/user")]})
        forgotten = await http.delete("/users/new/user")
        assert forgotten.json() == {"forgotten": True, "bundle_history": False}
        assert (await http.delete("/users/new/user")).status_code == 404
        assert (await http.get("/users/new/user/history")).status_code == 404
        assert (await http.delete("/users/u1")).json() == {"forgotten": True, "bundle_history": True}
        assert (await http.get("/users/u1/history")).json() == before
        assert (await http.delete("/users/u1")).json() == {"forgotten": False, "bundle_history": True}


def history(http: httpx.Client, user_id: str) -> list[str] | None:
    """A user's items; None for an unknown user."""
    answer = http.get(f"/users/{user_id}/history")
    return [item["item_id"] for item in answer.json()["items"]] if answer.status_code == 200 else None


async def test_a_user_of_events_alone_is_not_called_unknown_while_their_store_does_not_answer(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(store: SqliteEvents, user_id: str) -> list[str]:
        raise StoreError("as if the disk could not be read")

    async with service_served(bundle_folder, simulator_url=UNUSED) as http:
        await http.post("/events", json={"events": [event("new"), event("u1")]})
        monkeypatch.setattr(SqliteEvents, "get", down)
        unknown = await http.get("/users/new/history")
        assert (unknown.status_code, unknown.headers["retry-after"]) == (503, "2")
        assert "their store is down" in (await http.get("/users/u1/history")).json()["warnings"][0]
        answer = (await http.post("/recommend", json={"user_id": "new"})).json()
        assert answer["outcome"] == "cold_start"
        assert not any("unknown user" in warning for warning in answer["warnings"])


def client(service: RunningService) -> httpx.Client:
    """A client with a new connection for each request, so that any of the workers may answer it."""
    return httpx.Client(base_url=service.url, headers={"connection": "close"}, trust_env=False)


def test_an_acknowledged_event_is_seen_by_both_workers_and_survives_that_all_processes_are_killed(
    bundle_folder: Path, tmp_path: Path
) -> None:
    settings = {"data": str(tmp_path / "data"), "log_level": "warning"}
    with start_service(bundle_folder, workers="2", **settings) as service, client(service) as http:
        for number in range(10):
            batch = {"events": [event("kept", number, number), event("forgotten")]}
            assert http.post("/events", json=batch).status_code == 200
            for _ in range(3):
                assert history(http, "kept") == [f"I{at:03d}" for at in range(number + 1)]
        assert http.delete("/users/forgotten").status_code == 200
        assert [history(http, "forgotten") for _ in range(6)] == [None] * 6
        for pid in (*service.children(""), service.process.pid):
            os.kill(pid, signal.SIGKILL)
    with start_service(bundle_folder, **settings) as service, client(service) as http:
        assert history(http, "kept") == [f"I{at:03d}" for at in range(10)]
        assert history(http, "forgotten") is None


def test_a_damaged_file_stops_the_start_with_what_to_do(bundle_folder: Path, data_folder: Path) -> None:
    file = events_file(data_folder / "events", "blocks")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no database" * 100)
    refused = r"stopped with [1-9][^`]* is damaged [^`]*`python -m service events set-aside`"
    with (
        pytest.raises(RuntimeError, match=refused),
        start_service(bundle_folder, data=str(data_folder)),
    ):
        pass
