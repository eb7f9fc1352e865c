"""Tests that an error in the LVLM stage's own code leaves the candidate model's order."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.catalogue.bundle import Catalogue
from service.http.schemas import RecommendAnswer
from service.logs import JsonFormatter
from service.lvlm.contracts import StageRequest, StageResult
from service.settings import Settings
from service.wiring.application import create_app

BODY = {"user_id": "u1", "k": 5}


class BrokenStage:
    """Raises what is no provider's doing."""

    async def rerank(
        self,
        request: StageRequest,
        catalogue: Catalogue,
        on_prefix: Callable[[Sequence[int]], None] | None = None,
    ) -> StageResult:
        raise KeyError("a fault of ours")


class BrokenChoices:
    """Breaks where the stage's request is put together, before the stage is called."""

    def __init__(self, whole: Any) -> None:
        self._whole = whole

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def alternatives_for(self, *_: object) -> tuple[tuple[str, str], ...]:
        raise ZeroDivisionError


class LinesOfLog(logging.Handler):
    """Formats each line when it is written, as the service does."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.setFormatter(JsonFormatter())
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@pytest.fixture
def log() -> Iterator[LinesOfLog]:
    handler = LinesOfLog()
    logging.getLogger("service").addHandler(handler)
    yield handler
    logging.getLogger("service").removeHandler(handler)


@pytest.fixture
def client(bundle_folder: Path) -> Iterator[TestClient]:
    with TestClient(
        create_app(Settings(bundle=bundle_folder, simulator_url="http://127.0.0.1:9")), "http://127.0.0.1"
    ) as client:
        yield client


def break_inside(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = client.app.state.services.recommender  # type: ignore[attr-defined]
    monkeypatch.setattr(recommender, "_reranker", BrokenStage())


def break_before(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = client.app.state.services.recommender  # type: ignore[attr-defined]
    monkeypatch.setattr(recommender, "_lvlms", BrokenChoices(recommender._lvlms))


@pytest.mark.parametrize("break_it", [break_inside, break_before])
def test_the_candidate_order_is_the_answer(
    break_it: Callable[[TestClient, pytest.MonkeyPatch], None],
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = client.post("/recommend?strategy=none", json=BODY).json()
    break_it(client, monkeypatch)
    response = client.post("/recommend?strategy=s3", json=BODY)
    assert response.status_code == 200
    answer = response.json()
    RecommendAnswer.model_validate(answer, strict=True)
    assert (answer["outcome"], answer["served"], answer["lvlm"]) == ("fallback_provider", "none", None)
    assert answer["items"] == expected["items"]
    assert answer["warnings"] == ["the LVLM stage broke: the candidate model's order goes on"]


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_it_is_logged_once_with_its_traceback_and_the_requests_id(
    accept: str, client: TestClient, monkeypatch: pytest.MonkeyPatch, log: LinesOfLog
) -> None:
    break_inside(client, monkeypatch)
    headers = {"x-request-id": "visit-7", "accept": accept}
    assert client.post("/recommend?strategy=s3", json=BODY, headers=headers).status_code == 200
    (line,) = log.lines
    assert line["request_id"] == "visit-7"
    assert "KeyError: 'a fault of ours'" in line["exception"]


def test_it_is_counted_as_a_fallback_and_observed_as_one(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_inside(client, monkeypatch)
    client.post("/recommend?strategy=s3", json=BODY)
    lines = client.get("/metrics").text.splitlines()
    assert 'msr_fallbacks_total{reason="fallback_provider"} 1.0' in lines
    (sample,) = [line for line in lines if line.startswith("msr_request_duration_seconds_count")]
    assert 'outcome="fallback_provider"' in sample
    assert 'status="200"' in sample
