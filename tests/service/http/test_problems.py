"""Tests that every error is a problem document (RFC 9457) without secret or traceback."""

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from service.errors import OverloadedError, UnavailableError
from service.http import problems
from service.http.middleware.observation import Observation
from service.metrics import Metrics


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    problems.install(app)
    app.add_middleware(Observation, metrics=Metrics())

    @app.get("/busy")
    def busy() -> None:
        raise OverloadedError("the queue is full", retry_after=3)

    @app.get("/away")
    def away() -> None:
        raise UnavailableError("not there \ud800")

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("password=hunter2")

    return TestClient(app)


def test_a_full_queue_says_when_to_come_again(client: TestClient) -> None:
    response = client.get("/busy")
    assert response.status_code == 429
    assert response.headers["retry-after"] == "3"
    assert response.json() == {
        "type": "about:blank",
        "title": "Too many requests",
        "status": 429,
        "detail": "the queue is full",
        "request_id": response.headers["x-request-id"],
    }


def test_text_that_cannot_be_encoded_does_not_break_the_answer(client: TestClient) -> None:
    response = client.get("/away")
    assert response.status_code == 503
    assert response.json()["detail"] == "not there ?"


def test_an_unexpected_error_shows_nothing_of_itself(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    response = client.get("/broken")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert "hunter2" not in response.text


def test_an_unexpected_error_in_a_recommendation_is_counted_as_a_500() -> None:
    app, metrics = FastAPI(), Metrics()
    problems.install(app)
    app.add_middleware(Observation, metrics=metrics)

    @app.post("/recommend")
    def broken() -> None:
        raise RuntimeError

    assert TestClient(app).post("/recommend").status_code == 500
    assert b'outcome="error",status="500",strategy="invalid"} 1.0' in metrics.text()
