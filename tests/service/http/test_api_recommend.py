"""Tests the contract of ``POST /recommend``, over a real socket with the real simulator."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_process import start_service

from service.http.schemas import RecommendAnswer

STRATEGIES = ["none", "s1", "s2", "s3", "s4", "s5"]


@pytest.fixture(scope="module")
def client(bundle_folder: Path) -> Iterator[httpx.Client]:
    with start_service(bundle_folder) as service, httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


def recommend(client: httpx.Client, strategy: str = "none", query: str = "", **body: Any) -> dict[str, Any]:
    response = client.post(f"/recommend?strategy={strategy}{query}", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    RecommendAnswer.model_validate(answer, strict=True)
    ids = [item["item_id"] for item in answer["items"]]
    assert len(set(ids)) == len(ids)
    assert [item["rank"] for item in answer["items"]] == list(range(1, len(ids) + 1))
    return answer


def refused(client: httpx.Client, status: int, url: str = "/recommend", **request: Any) -> str:
    response = client.post(url, **request)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    return str(problem["detail"])


def ids_of(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_answers_ten_items_that_the_user_has_not_seen(
    client: httpx.Client, strategy: str
) -> None:
    seen = {item["item_id"] for item in client.get("/users/u1/history").json()["items"]}
    answer = recommend(client, strategy, user_id="u1")
    assert answer["strategy"] == answer["served"] == strategy
    assert answer["outcome"] == "ok"
    assert len(answer["items"]) == 10
    assert not seen & set(ids_of(answer))
    asks = strategy in ("s1", "s3", "s4", "s5")
    assert (answer["lvlm"] is not None) == asks
    assert answer["backbone"]["name"] == ("blocks-enhanced" if strategy == "s2" else "blocks-raw")
    if asks:
        assert answer["lvlm"]["provider"] == "simulator"
        assert answer["lvlm"]["input_tokens"] > 0
        assert answer["timings_ms"]["lvlm"] > 0
        assert {item["source"] for item in answer["items"]} == {"lvlm"}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_simulated_answers_over_the_anthropic_wire_are_named_so_too(
    client: httpx.Client, strategy: str
) -> None:
    answer = recommend(client, strategy, "&provider=simulator-anthropic", user_id="u2")
    if answer["lvlm"]:
        assert answer["lvlm"]["provider"] == "simulator"
        assert answer["served"] == strategy


def test_the_raw_view_shows_pictures_and_the_enhanced_view_captions(client: httpx.Client) -> None:
    shown = recommend(client, "s3", user_id="u1")["lvlm"]["shown"]
    assert (shown["images"], shown["without_image"]) == (2, 2)  # I005 and I017 have no picture
    assert shown["titles"] == 4
    assert shown["captions"] == 0
    shown = recommend(client, "s5", user_id="u1")["lvlm"]["shown"]
    assert shown == {"titles": 4, "images": 0, "captions": 4, "without_image": 0}


def test_a_second_identical_request_is_answered_from_the_cache(client: httpx.Client) -> None:
    body = {"history": ["I001", "I002"], "k": 7}
    first = recommend(client, "s3", "&cache=refresh", **body)
    second = recommend(client, "s3", **body)
    off = recommend(client, "s3", "&cache=off", **body)
    assert [answer["lvlm"]["cache"] for answer in (first, second, off)] == ["refresh", "hit", "off"]
    assert ids_of(first) == ids_of(second) == ids_of(off)
    assert second["lvlm"]["input_tokens"] == 0


def test_a_history_replaces_the_stored_one(client: httpx.Client) -> None:
    assert ids_of(recommend(client, user_id="u1", history=["I000"])) == ids_of(
        recommend(client, history=["I000"])
    )


def test_red_mugs_bring_red_mugs(client: httpx.Client) -> None:
    answer = recommend(client, history=["I000"], k=2)
    assert ids_of(answer) == ["I016", "I032"]
    assert answer["items"][0]["base_rank"] == 1
    assert answer["items"][0]["source"] == "blocks-raw"
    assert answer["items"][0]["title"] == "Red mug number 16"
    assert answer["items"][0]["image_url"] == "/items/I016/image"


def test_an_item_without_a_title_is_called_by_its_keywords(client: httpx.Client) -> None:
    answer = recommend(client, history=["I000"], candidates=["I006", "I005"])
    assert {item["item_id"]: (item["title"], item["image_url"]) for item in answer["items"]} == {
        "I006": ("blue lamp", "/items/I006/image"),
        "I005": ("Green lamp number 5", None),
    }


def test_seen_items_come_back_only_when_asked_for(client: httpx.Client) -> None:
    assert "I000" not in ids_of(recommend(client, history=["I000"], k=48))
    assert ids_of(recommend(client, history=["I000"], include_seen=True))[0] == "I000"


def test_excluded_items_never_come_back(client: httpx.Client) -> None:
    answer = recommend(client, history=["I000"], exclude=["I016", "never heard of"], k=2)
    assert ids_of(answer) == ["I032", "I001"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_given_candidates_are_ranked_even_when_seen_and_no_others(
    client: httpx.Client, strategy: str
) -> None:
    candidates = ["I003", "I000", "I016", "I010"]
    answer = recommend(client, strategy, history=["I000"], candidates=candidates, k=4)
    assert set(ids_of(answer)) == set(candidates)
    if strategy in ("none", "s2"):
        assert ids_of(answer)[:2] == ["I000", "I016"]


def test_the_order_of_given_candidates_does_not_matter(client: httpx.Client) -> None:
    candidates = [f"I{row:03d}" for row in range(30)]
    for strategy in ("none", "s1", "s3"):
        one = recommend(client, strategy, "&cache=off", history=["I000", "I007"], candidates=candidates)
        two = recommend(client, strategy, "&cache=off", history=["I000", "I007"], candidates=candidates[::-1])
        assert ids_of(one) == ids_of(two)


def test_repeated_and_excluded_candidates_are_left_out(client: httpx.Client) -> None:
    answer = recommend(client, history=["I000"], candidates=["I001", "I002", "I001"], exclude=["I002"])
    assert ids_of(answer) == ["I001"]
    assert answer["warnings"] == [
        "1 repeated candidates left out",
        "1 items exist for this request and k is 10",
    ]


def test_beyond_the_thirty_that_the_lvlm_saw_the_candidate_order_continues(client: httpx.Client) -> None:
    answer = recommend(client, "s3", history=["I000"], k=40)
    assert [item["source"] for item in answer["items"]] == ["lvlm"] * 30 + ["blocks-raw"] * 10
    assert [item["base_rank"] for item in answer["items"]][30:] == list(range(31, 41))


@pytest.mark.parametrize("strategy", ["none", "s3"])
def test_an_unknown_user_gets_popular_items(client: httpx.Client, strategy: str) -> None:
    answer = recommend(client, strategy, user_id="nobody", k=3)
    assert answer["outcome"] == "cold_start"
    assert answer["served"] == "none"
    assert answer["lvlm"] is None
    assert {item["source"] for item in answer["items"]} == {"popularity"}
    assert any("unknown user" in warning for warning in answer["warnings"])


def test_unknown_history_items_are_left_out_and_named(client: httpx.Client) -> None:
    answer = recommend(client, history=["I000", "X1", "☃"])
    assert answer["warnings"] == ["unknown items left out of the history: X1, ☃"]
    assert recommend(client, history=["X1"])["outcome"] == "cold_start"
    assert recommend(client, history=[])["outcome"] == "cold_start"


def test_more_than_there_is_brings_all_there_is_and_a_warning(client: httpx.Client) -> None:
    answer = recommend(client, history=["I000"], k=100)
    assert len(answer["items"]) == 47
    assert "47 items exist for this request and k is 100" in answer["warnings"]


def test_a_backbone_can_be_chosen_by_name(client: httpx.Client) -> None:
    answer = recommend(client, "none", "&backbone=blocks-enhanced", history=["I000"])
    assert answer["backbone"]["name"] == "blocks-enhanced"


@pytest.mark.parametrize("form", ["label", "paper"])
@pytest.mark.parametrize("query", ["title", "image", "title%2Bimage"])
def test_modalities_and_prompt_forms_are_served(client: httpx.Client, form: str, query: str) -> None:
    answer = recommend(client, "s3", f"&prompt={form}&modality={query}&cache=off", user_id="u3")
    assert answer["served"] == "s3"
    assert (answer["lvlm"]["shown"]["images"] > 0) == ("image" in query)


@pytest.mark.parametrize("image_mode", ["grid", "strip", "separate"])
def test_image_modes_are_served(client: httpx.Client, image_mode: str) -> None:
    answer = recommend(client, "s3", f"&image_mode={image_mode}&cache=off", user_id="u3")
    assert answer["served"] == "s3"


def test_an_explanation_comes_only_when_asked_for(client: httpx.Client) -> None:
    assert recommend(client, "s3", user_id="u1")["explanation"] is None
    assert recommend(client, "s3", "&explain=true", user_id="u1")["explanation"].startswith(
        "Simulated answer:"
    )


def test_no_time_at_all_gives_the_candidate_order_and_says_so(client: httpx.Client) -> None:
    answer = recommend(client, "s3", "&cache=off", history=["I000", "I003"], deadline_ms=0)
    assert answer["outcome"] == "fallback_deadline"
    assert answer["served"] == "none"
    assert [item["base_rank"] for item in answer["items"]] == list(range(1, 11))
    assert {item["source"] for item in answer["items"]} == {"blocks-raw"}


def test_timings_name_every_stage_and_add_up(client: httpx.Client) -> None:
    timings = recommend(client, "s3", "&cache=off", user_id="u1")["timings_ms"]
    total = timings.pop("total")
    assert set(timings) == {"history", "candidates", "prompt", "cache", "lvlm"}
    assert sum(timings.values()) <= total


def test_a_request_id_is_kept_when_it_is_one(client: httpx.Client) -> None:
    response = client.post("/recommend", json={"user_id": "u1"}, headers={"x-request-id": "abc-1"})
    assert response.json()["request_id"] == response.headers["x-request-id"] == "abc-1"
    response = client.post("/recommend", json={"user_id": "u1"}, headers={"x-request-id": "a b\t<script>"})
    assert response.json()["request_id"] == response.headers["x-request-id"] != "a b\t<script>"


@pytest.mark.parametrize(
    ("url", "body", "named"),
    [
        ("/recommend", {}, "give a user_id, a history or both"),
        ("/recommend", {"user_id": "u1", "k": 0}, "body.k"),
        ("/recommend", {"user_id": "u1", "k": 101}, "body.k"),
        ("/recommend", {"user_id": "u1", "k": "10"}, "body.k"),
        ("/recommend", {"user_id": "u1", "k": True}, "body.k"),
        ("/recommend", {"user_id": 7}, "body.user_id"),
        ("/recommend", {"user_id": ""}, "body.user_id"),
        ("/recommend", {"user_id": "u1", "deadline_ms": 300_001}, "body.deadline_ms"),
        ("/recommend", {"user_id": "u1", "deadline_ms": -1}, "body.deadline_ms"),
        ("/recommend", {"user_id": "u1", "history": ["I000"] * 2_001}, "body.history"),
        ("/recommend", {"user_id": "u1", "exclude": ["I000"] * 2_001}, "body.exclude"),
        ("/recommend", {"user_id": "u1", "candidates": ["I000"] * 101}, "body.candidates"),
        ("/recommend", {"user_id": "u1", "candidates": []}, "body.candidates"),
        ("/recommend", {"user_id": "u1", "candidates": ["I000", "X1", "X2"]}, "unknown candidates: X1, X2"),
        ("/recommend", {"user_id": "u1", "histroy": []}, "body.histroy"),
        ("/recommend", [], "body"),
        ("/recommend?strategy=s9", {"user_id": "u1"}, "query.strategy"),
        ("/recommend?stratgy=s3", {"user_id": "u1"}, "query.stratgy"),
        ("/recommend?backbone=x", {"user_id": "u1"}, "no backbone 'x' in this bundle; it has blocks-"),
        ("/recommend?strategy=s2&backbone=blocks-raw", {"user_id": "u1"}, "is raw"),
        (
            "/recommend?strategy=s3&provider=openai",
            {"user_id": "u1"},
            "no provider 'openai'; configured are simulator",
        ),
        ("/recommend?strategy=s3&model=gpt-9", {"user_id": "u1"}, "no model 'gpt-9' at simulator"),
        ("/recommend?modality=video", {"user_id": "u1"}, "query.modality"),
        ("/recommend?image_mode=pile", {"user_id": "u1"}, "query.image_mode"),
        ("/recommend?prompt=poem", {"user_id": "u1"}, "query.prompt"),
        ("/recommend?cache=maybe", {"user_id": "u1"}, "query.cache"),
        ("/recommend?cache=use&cache=off", {"user_id": "u1"}, "query.cache: given more than once"),
        ("/recommend?" + "&".join(f"a{n}=1" for n in range(900)), {}, "query: more than 32 parameters"),
    ],
)
def test_what_cannot_be_is_refused_by_name(client: httpx.Client, url: str, body: Any, named: str) -> None:
    assert named in refused(client, 422, url, json=body)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"\xff\xfe",
        b'{"user_id": "\xff"}',
        b'{"user_id": "\\ud800"}',
        b'{"k": NaN}',
        b"[" * 100_000,
        b'{"user_id": "u1", "k": 1e999}',
        b'{"user_id": "u1", "k": ' + b"9" * 5_000 + b"}",
    ],
)
def test_a_body_that_is_not_json_is_refused(client: httpx.Client, content: bytes) -> None:
    response = client.post("/recommend", content=content, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422), response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_a_body_over_the_limit_is_refused_whether_announced_or_not(client: httpx.Client) -> None:
    large = b'{"user_id": "' + b"x" * 1_100_000 + b'"}'
    assert "1048576 bytes" in refused(client, 413, content=large)
    chunks = (large[start : start + 65_536] for start in range(0, len(large), 65_536))
    assert "1048576 bytes" in refused(client, 413, content=chunks)


def test_a_chunked_body_within_the_limit_is_read(client: httpx.Client) -> None:
    chunks = iter([b'{"user_', b'id": ', b'"u1"}'])
    response = client.post("/recommend", content=chunks, headers={"content-type": "application/json"})
    assert response.status_code == 200, response.text


def test_unknown_paths_and_methods_are_problems_too(client: httpx.Client) -> None:
    for response, status in ((client.get("/nowhere"), 404), (client.get("/recommend"), 405)):
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
