"""Tests ``POST /recommend`` with backbones without an encoder: graph and count families."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from bundles import write_bundle, write_graph_backbone
from service_process import start_service

from service.candidates.graph import UNKNOWN_USER
from service.catalogue.bundle import open_bundle


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = write_bundle(tmp_path_factory.mktemp("families") / "blocks")
    write_graph_backbone(folder, "graph", open_bundle(folder).catalogue.version, items=48, users=12)
    with start_service(folder) as service, httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


def recommend(client: httpx.Client, backbone: str, query: str = "", **body: Any) -> dict[str, Any]:
    response = client.post(f"/recommend?backbone={backbone}{query}", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def ids_of(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


@pytest.mark.parametrize("name", ["pop", "random"])
def test_every_bundle_answers_by_counts_and_by_chance(client: httpx.Client, name: str) -> None:
    answer = recommend(client, name, user_id="u1")
    assert answer["backbone"]["name"] == answer["backbone"]["family"] == name
    assert (answer["outcome"], answer["served"]) == ("ok", "none")
    assert {item["source"] for item in answer["items"]} == {name}
    seen = {item["item_id"] for item in client.get("/users/u1/history").json()["items"]}
    assert not seen & set(ids_of(answer))
    assert ids_of(recommend(client, name, user_id="u1")) == ids_of(answer)


def test_pop_ranks_candidates_by_their_counts(client: httpx.Client) -> None:
    candidates = [f"I{row:03d}" for row in range(20)]
    answer = recommend(client, "pop", history=["I047"], candidates=candidates, k=20)
    counts = [client.get(f"/items/{item_id}").json()["popularity"] for item_id in ids_of(answer)]
    assert counts == sorted(counts, reverse=True) == [item["score"] for item in answer["items"]]


def test_the_lvlm_reranks_a_random_pool_once_and_then_from_the_cache(client: httpx.Client) -> None:
    first, second = (recommend(client, "random", "&strategy=s3", user_id="u2") for _ in range(2))
    assert first["served"] == "s3"
    assert first["lvlm"]["cache"] == "miss"
    assert second["lvlm"]["cache"] == "hit"
    assert ids_of(first) == ids_of(second)


@pytest.mark.parametrize("name", ["pop", "random", "graph"])
def test_without_a_history_and_a_vector_the_answer_is_a_cold_start(client: httpx.Client, name: str) -> None:
    answer = recommend(client, name, user_id="stranger")
    assert answer["outcome"] == "cold_start"
    assert {item["source"] for item in answer["items"]} == {"popularity"}
    assert UNKNOWN_USER not in answer["warnings"]


def test_a_user_selects_a_graph_models_vector_beside_a_given_history(client: httpx.Client) -> None:
    answer = recommend(client, "graph", user_id="u2", history=["I002"], k=3)
    assert ids_of(answer) == ["I006", "I010", "I014"]  # blue, as u2 likes it, without what was seen
    assert answer["warnings"] == []
    assert ids_of(recommend(client, "graph", user_id="u2", history=[], k=2)) == ["I002", "I006"]


def test_without_a_history_the_lvlm_is_not_asked_and_the_answer_says_so(
    client: httpx.Client,
) -> None:
    answer = recommend(client, "graph", "&strategy=s3", user_id="u2", history=[], k=3)
    assert (answer["outcome"], answer["served"], answer["lvlm"]) == ("cold_start", "none", None)
    assert answer["warnings"] == ["no history to show the LVLM: the candidate model's order"]
    assert {item["source"] for item in answer["items"]} == {"graph"}


def test_an_unknown_user_is_ranked_by_the_mean_of_the_history_with_a_warning(client: httpx.Client) -> None:
    for body in ({"history": ["I000"]}, {"user_id": "stranger", "history": ["I000"]}):
        answer = recommend(client, "graph", k=2, **body)
        assert ids_of(answer) == ["I016", "I032"]
        assert answer["outcome"] == "ok"
        assert UNKNOWN_USER in answer["warnings"]


def test_every_backbone_is_named_with_its_family_and_the_strategies_that_choose_it(
    client: httpx.Client,
) -> None:
    backbones = client.get("/health/ready").json()["bundle"]["backbones"]
    assert {name: facts["family"] for name, facts in backbones.items()} == {
        "blocks-raw": "morec",
        "blocks-enhanced": "morec",
        "graph": "graph",
        "pop": "pop",
        "random": "random",
    }
    # The graph's vectors do not follow new events, so it answers only where it is asked for.
    assert backbones["blocks-raw"]["default_for"] == ["none", "s1", "s3", "s4", "s5"]
    assert backbones["blocks-enhanced"]["default_for"] == ["s2"]
    assert backbones["graph"]["default_for"] == backbones["pop"]["default_for"] == []
    for name, facts in backbones.items():
        strategy = "&strategy=s2" if facts["text_view"] == "enhanced" else ""
        answered = recommend(client, name, strategy, user_id="u1")["backbone"]
        assert (answered["name"], answered["version"], answered["family"]) == (
            name,
            facts["version"],
            facts["family"],
        )


def test_counting_is_no_backbone_of_the_bundle(client: httpx.Client) -> None:
    info = [line for line in client.get("/metrics").text.splitlines() if line.startswith("msr_bundle_info{")]
    assert len(info) == 3
    default = client.post("/recommend", json={"user_id": "u1"}).json()["backbone"]["name"]
    assert default == "blocks-raw"
    refused = client.post("/recommend?strategy=s2&backbone=pop", json={"user_id": "u1"})
    assert refused.status_code == 422
    assert "'pop' is raw" in refused.json()["detail"]


def test_the_histogram_names_the_family_that_answered(client: httpx.Client) -> None:
    recommend(client, "pop", user_id="u3")
    text = client.get("/metrics").text
    assert any(
        "msr_request_duration_seconds_count" in line and 'backbone="pop"' in line
        for line in text.splitlines()
    )
