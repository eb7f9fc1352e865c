"""Tests that every request is counted, timed and, where it failed, logged."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.responses import Response
from starlette.testclient import TestClient

from service import logs
from service.http.middleware.observation import Observation
from service.http.middleware.paths import Paths
from service.http.services import Services
from service.metrics import Metrics
from service.settings import Settings
from service.stores.base import StoreError
from service.wiring.application import create_app

LOOPBACK = "http://127.0.0.1"  # a name by which a service on a loopback address may be called

Counts = dict[tuple[str, str], float]


@pytest.fixture(scope="module")
def client(bundle_folder: Path) -> Iterator[TestClient]:
    settings = Settings(
        bundle=bundle_folder, simulator_url="http://127.0.0.1:9", api_key="a-key", max_body_bytes=1024
    )
    with TestClient(create_app(settings), LOOPBACK, headers={"x-api-key": "a-key"}) as client:
        yield client


def services_of(client: TestClient) -> Services:
    services = client.app.state.services  # type: ignore[attr-defined]
    assert isinstance(services, Services)
    return services


def counts(metrics: Metrics) -> Counts:
    (family,) = [found for found in metrics.registry.collect() if found.name == "msr_http_requests"]
    return {
        (sample.labels["route"], sample.labels["status"]): sample.value
        for sample in family.samples
        if sample.name == "msr_http_requests_total" and sample.value
    }


@pytest.mark.parametrize(
    ("method", "path", "options", "route", "status"),
    [
        ("GET", "/items/I000", {}, "/items/{item_id}", 200),
        ("GET", "/items/nothing/at/all", {}, "/items/{item_id}", 404),
        ("GET", "/items/I000/image", {}, "/items/{item_id}/image", 200),
        ("GET", "/users/u1/history", {}, "/users/{user_id}/history", 200),
        ("GET", "/items?limit=0", {}, "/items", 422),
        ("GET", "/", {}, "/", 200),
        ("GET", "/openapi.json", {}, "/openapi.json", 200),
        ("GET", "/wp-login.php", {}, "other", 404),
        ("BREW", "/users", {}, "/users", 405),
        ("POST", "/recommend", {"json": {"user_id": "u1"}}, "/recommend", 200),
        ("POST", "/recommend", {"content": b"{"}, "/recommend", 422),
        ("POST", "/events", {"json": {"events": []}}, "/events", 422),
        ("POST", "/events", {"json": {}, "headers": {"x-api-key": "wrong"}}, "/events", 401),
        ("POST", "/events", {"content": b" " * 2000}, "/events", 413),
        ("GET", "/items/I000", {"headers": {"x-api-key": "wrong"}}, "/items/{item_id}", 401),
    ],
)
def test_a_request_is_counted_once_under_the_route_that_it_named_also_when_it_is_refused(
    client: TestClient, method: str, path: str, options: dict[str, Any], route: str, status: int
) -> None:
    metrics = services_of(client).metrics
    before = counts(metrics)
    assert client.request(method, path, **options).status_code == status
    after = counts(metrics)
    assert {key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key)} == {
        (route, str(status)): 1
    }
    if route != "/recommend":  # it has a histogram of its own
        labels = {"route": route, "status": str(status)}
        found = metrics.registry.get_sample_value("msr_http_request_duration_seconds_count", labels)
        assert found == after[route, str(status)]


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, dict[str, Any]]]:
    return [
        (record.levelno, vars(record)[logs.FIELDS])
        for record in caplog.records
        if record.message == "request failed"
    ]


def test_events_that_were_not_stored_are_in_the_log_with_their_request_id(
    client: TestClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = services_of(client).events
    assert events is not None

    async def append(*_: object) -> None:
        raise StoreError

    monkeypatch.setattr(events, "append", append)
    text: list[str] = []
    monkeypatch.setattr(
        caplog.handler, "emit", lambda record: text.append(logs.JsonFormatter().format(record))
    )
    event = {"user_id": "u1", "item_id": "I000", "timestamp": 1_700_000_000}
    response = client.post("/events", json={"events": [event]}, headers={"x-request-id": "my-request"})
    assert response.status_code == 503
    (line,) = [one for one in text if "request failed" in one]
    for part in ('"level": "warning"', '"request_id": "my-request"', '"route": "/events"', '"status": 503'):
        assert part in line


@pytest.mark.parametrize(
    ("method", "path", "status", "level"),
    [
        ("POST", "/write", 507, logging.WARNING),
        ("POST", "/write", 422, logging.INFO),
        ("DELETE", "/write", 404, logging.INFO),
        ("GET", "/read", 503, logging.WARNING),
        ("GET", "/read", 404, None),
        ("POST", "/write", 200, None),
        ("GET", "/health/ready", 503, logging.INFO),
    ],
)
def test_failures_are_logged_and_refusals_of_writes_at_a_lower_level(
    method: str, path: str, status: int, level: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastAPI()
    app.add_api_route("/write", lambda: Response(status_code=status), methods=["POST", "DELETE"])
    app.add_api_route("/read", lambda: Response(status_code=status))
    app.add_api_route("/health/ready", lambda: Response(status_code=status))
    app.add_middleware(Observation, metrics=Metrics())
    with caplog.at_level(logging.DEBUG, "service"):
        TestClient(app).request(method, path)
    found = [(at, fields["route"], fields["status"]) for at, fields in lines(caplog)]
    assert found == ([] if level is None else [(level, path, status)])


def test_a_prefix_of_a_proxy_and_a_slash_at_the_end_do_not_hide_the_route() -> None:
    metrics, app = Metrics(), FastAPI()
    app.add_middleware(Observation, metrics=metrics)
    app.add_middleware(Paths, root_path="/msr", fixed={"/recommend"})

    @app.post("/recommend")
    def recommend() -> dict[str, bool]:
        return {}

    client = TestClient(app, follow_redirects=False)
    for path in ("/recommend", "/msr/recommend", "/recommend/", "/msr/recommend/"):
        client.post(path)
    assert counts(metrics) == {("/recommend", "200"): 4}
    observed = metrics.registry.get_sample_value("msr_inflight_requests")
    assert observed == 0
    text = metrics.text().decode()
    assert 'msr_request_duration_seconds_count{backbone="none",cache="none",model="none"' in text


def test_a_scrape_shows_what_was_answered_before_it(client: TestClient) -> None:
    services = services_of(client)
    for _ in range(3):
        before = counts(services.metrics).get(("/users", "200"), 0)
        client.get("/users")
        text = client.get("/metrics").text
        assert f'msr_http_requests_total{{route="/users",status="200"}} {before + 1}' in text
        assert 'process_resident_memory_bytes{worker="0"}' in text


@pytest.mark.parametrize("error", [OSError("gone"), TimeoutError()])
def test_metrics_that_the_parent_does_not_give_are_a_503(
    client: TestClient, error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def expose_all() -> bytes:
        raise error

    monkeypatch.setattr(services_of(client).metrics, "expose_all", expose_all)
    response = client.get("/metrics")
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["retry-after"]


def test_metrics_of_many_scrapes_at_once_are_made_by_one_thread_at_a_time(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = services_of(client).metrics
    loop_thread = threading.get_ident()
    made, text = [], metrics.text

    def counted() -> bytes:
        made.append(threading.get_ident())
        return text()

    monkeypatch.setattr(metrics, "text", counted)
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.get("/metrics").status_code)) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 12
    assert len(made) < 12
    assert loop_thread not in made


def test_a_bundle_that_is_swapped_takes_its_series_along() -> None:
    metrics = Metrics()
    metrics.set_bundle_info([("old", "1", "sasrec"), ("both", "1", "morec")])
    metrics.set_bundle_info([("both", "2", "morec")])
    shown = [line for line in metrics.text().decode().splitlines() if line.startswith("msr_bundle_info{")]
    assert shown == ['msr_bundle_info{model="morec",name="both",version="2"} 1.0']
