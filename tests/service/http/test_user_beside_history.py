"""Tests what a graph family reads of a user whose request brings a history: the vector, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from bundles import write_bundle, write_graph_backbone
from starlette.testclient import TestClient

from service.catalogue.bundle import Catalogue, open_bundle
from service.lvlm.contracts import StageRequest, StageResult
from service.settings import Settings
from service.wiring.application import create_app

USER = "u2"  # whose vector wants row 2 of every four
STORED = ["I010", "I014", "I018", "I022", "I026"]
GIVEN = ["I003", "I007"]


class WatchedStage:
    """Keeps its requests and fails, so that the candidate model's order is the answer."""

    def __init__(self) -> None:
        self.requests: list[StageRequest] = []

    async def rerank(
        self,
        request: StageRequest,
        catalogue: Catalogue,
        on_prefix: Callable[[Sequence[int]], None] | None = None,
    ) -> StageResult:
        self.requests.append(request)
        raise RuntimeError("asked")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_bundle(tmp_path_factory.mktemp("bundles") / "blocks")
    write_graph_backbone(folder, "graph", open_bundle(folder).catalogue.version, items=48, users=12)
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    settings = Settings(bundle=folder, simulator_url="http://127.0.0.1:9", data=folder.parent / "data")
    with TestClient(create_app(settings), "http://127.0.0.1") as client:
        yield client


@pytest.fixture
def stage(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> WatchedStage:
    watched = WatchedStage()
    monkeypatch.setattr(client.app.state.services.recommender, "_reranker", watched)  # type: ignore[attr-defined]
    return watched


def recommend(client: TestClient, query: str = "", **body: Any) -> dict[str, Any]:
    response = client.post(f"/recommend?backbone=graph{query}", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_items_of_the_stored_history_are_neither_excluded_nor_scored_otherwise(
    client: TestClient, folder: Path
) -> None:
    stored = [item["item_id"] for item in client.get(f"/users/{USER}/history").json()["items"]]
    assert stored == STORED
    answer = recommend(client, user_id=USER, history=GIVEN, k=46)
    found = {item["item_id"]: item["score"] for item in answer["items"]}
    assert set(found) == {f"I{row:03}" for row in range(48)} - set(GIVEN)
    backbone = open_bundle(folder).backbones["graph"]
    assert backbone.user_vectors is not None
    scores = backbone.item_vectors @ backbone.user_vectors[2]
    for item_id, score in found.items():
        assert score == pytest.approx(float(scores[int(item_id[1:])]), rel=1e-6)
    assert answer["warnings"] == []


def test_the_target_of_a_stored_history_is_ranked_among_the_candidates(client: TestClient) -> None:
    candidates = ["I000", "I001", STORED[-1], "I004", *GIVEN]
    answer = recommend(client, user_id=USER, history=GIVEN, candidates=candidates, k=6)
    assert sorted(item["item_id"] for item in answer["items"]) == sorted(candidates)
    assert answer["items"][0]["item_id"] == STORED[-1]


@pytest.mark.parametrize("strategy", ["s1", "s3", "s4", "s5"])
def test_the_lvlm_is_shown_the_history_of_the_request_alone(
    strategy: str, client: TestClient, stage: WatchedStage
) -> None:
    body = {"history": GIVEN, "candidates": ["I000", STORED[-1]], "k": 2}
    for user in ({"user_id": USER}, {}):
        recommend(client, f"&strategy={strategy}", **user, **body)
    known, unknown = stage.requests
    assert known.history == unknown.history == (3, 7)
    assert set(known.pool) == set(unknown.pool) == {0, 26}


def test_events_since_reach_nothing_of_a_request_with_a_history(
    client: TestClient, stage: WatchedStage
) -> None:
    body = {"user_id": "u6", "history": GIVEN, "k": 46}
    before = recommend(client, **body)["items"]
    taken = enumerate(("I040", "I002"), 1)
    events = [{"user_id": "u6", "item_id": item_id, "timestamp": at} for at, item_id in taken]
    assert client.post("/events", json={"events": events}).json()["stored"] == 2
    assert client.get("/users/u6/history").json()["items"][-1]["item_id"] == "I002"
    assert recommend(client, "&strategy=s3", **body)["items"] == before
    (request,) = stage.requests
    assert request.history == (3, 7)
