"""Tests that an event stream ends with its answer, whatever breaks before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.catalogue.bundle import Catalogue
from service.http.schemas import Problem, RecommendAnswer
from service.lvlm.contracts import StageRequest, StageResult
from service.settings import Settings
from service.wiring.application import create_app

Events = list[tuple[str, dict[str, Any]]]
Placed = Callable[[Sequence[int]], None]


class BrokenReranker:
    """Places some of the pool's last items and breaks."""

    def __init__(self, items: int, error: BaseException) -> None:
        self._items = items
        self._error = error

    async def rerank(
        self, request: StageRequest, catalogue: Catalogue, placed: Placed | None = None
    ) -> StageResult:
        for count in range(1, self._items + 1):
            assert placed is not None
            placed(request.pool[: -count - 1 : -1])
            await asyncio.sleep(0)
        raise self._error


@pytest.fixture(scope="module")
def client(bundle_folder: Path) -> Iterator[TestClient]:
    with TestClient(
        create_app(Settings(bundle=bundle_folder, simulator_url="http://127.0.0.1:9")), "http://127.0.0.1"
    ) as client:
        yield client


def watch(client: TestClient, **query: str) -> Events:
    response = client.post(
        "/recommend",
        params={"strategy": "s3", **query},
        json={"user_id": "u1", "k": 5},
        headers={"accept": "text/event-stream"},
    )
    assert response.status_code == 200
    assert response.text.endswith("\n\n")
    events = [event.split("\n") for event in response.text.removesuffix("\n\n").split("\n\n")]
    return [(kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for kind, data in events]


def counted(client: TestClient, start: str) -> list[str]:
    """Samples of the metrics that begin so."""
    return [line for line in client.get("/metrics").text.splitlines() if line.startswith(start)]


def broken(client: TestClient, monkeypatch: pytest.MonkeyPatch, items: int, error: BaseException) -> None:
    recommender = client.app.state.services.recommender  # type: ignore[attr-defined]
    monkeypatch.setattr(recommender, "_reranker", BrokenReranker(items, error))


def of_log(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize(
    "error", [RuntimeError("boom"), TimeoutError(), KeyError("x"), asyncio.CancelledError()]
)
def test_what_breaks_after_the_candidates_leaves_their_order_as_the_answer(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    broken(client, monkeypatch, 0, error)
    (first, candidates), (last, answer) = watch(client)
    assert (first, last) == ("candidates", "answer")
    RecommendAnswer.model_validate(answer, strict=True)
    assert (answer["outcome"], answer["served"], answer["lvlm"]) == ("fallback_provider", "none", None)
    assert answer["items"] == candidates["items"]
    assert answer["explanation"] is None
    assert answer["warnings"] == ["the LVLM stage broke: the candidate model's order goes on"]


@pytest.mark.parametrize("items", [1, 3, 5])
def test_what_was_sent_before_it_broke_stays_first(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, items: int
) -> None:
    broken(client, monkeypatch, items, RuntimeError("boom"))
    (_, candidates), *told, (last, answer) = watch(client)
    assert last == "answer"
    RecommendAnswer.model_validate(answer, strict=True)
    assert (answer["outcome"], answer["served"]) == ("partial", "s3")
    assert [kind for kind, _ in told] == ["item"] * items
    assert answer["items"][:items] == [item for _, item in told]
    rest = [item["item_id"] for item in candidates["items"]][: 5 - items]
    assert [item["item_id"] for item in answer["items"]][items:] == rest


def test_it_is_logged_once_and_counted_as_what_the_client_got(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken(client, monkeypatch, 0, RuntimeError("boom"))
    reasons = 'msr_fallbacks_total{reason="fallback_provider"}'
    before = sum(float(line.split()[-1]) for line in counted(client, reasons))
    watch(client, strategy="s5")
    assert of_log(caplog) == ["the LVLM stage broke: the candidate model's order goes on"]
    assert caplog.text.count("RuntimeError: boom") == 1
    assert sum(float(line.split()[-1]) for line in counted(client, reasons)) == before + 1
    (sample,) = [
        line for line in counted(client, "msr_request_duration_seconds_count") if 'strategy="s5"' in line
    ]
    assert 'outcome="fallback_provider"' in sample
    assert 'status="200"' in sample


def test_without_an_lvlm_the_answer_says_nothing_of_one(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = client.app.state.services.metrics  # type: ignore[attr-defined]
    monkeypatch.setattr(metrics, "stage", lambda *_: 1 / 0)
    (_, candidates), (last, answer) = watch(client, strategy="none")
    assert (last, answer["outcome"], answer["served"]) == ("answer", "ok", "none")
    assert answer["items"] == candidates["items"]


def test_where_not_even_the_answer_can_be_written_the_stream_ends_with_an_error(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken(client, monkeypatch, 2, RuntimeError("boom"))
    monkeypatch.setattr("service.http.event_stream.answer", lambda *_: 1 / 0)
    *told, (last, problem) = watch(client)
    assert [kind for kind, _ in told] == ["candidates", "item", "item"]
    assert last == "error"
    found = Problem.model_validate(problem, strict=True)
    assert (found.status, found.request_id) == (500, told[0][1]["request_id"])
    assert of_log(caplog) == [
        "the LVLM stage broke: the candidate model's order goes on",
        "an event stream has no answer to end with",
    ]


def test_what_breaks_before_the_first_event_is_a_plain_problem(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.http.event_stream.candidates", lambda *_: 1 / 0)
    response = client.post(
        "/recommend?strategy=s3", json={"user_id": "u1"}, headers={"accept": "text/event-stream"}
    )
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
