"""Items, users, events, health and the page, over a real socket."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from service_process import RunningService, start_service
from starlette.testclient import TestClient

from models.contracts import CATALOGUE
from service.catalogue.bundle import open_catalogue
from service.http.links import Links
from service.http.routers.items import item_answers
from service.settings import Settings
from service.wiring.application import create_app


@pytest.fixture(scope="module")
def service(bundle_folder: Path) -> Iterator[RunningService]:
    with start_service(bundle_folder, log_format="json") as service:
        yield service


@pytest.fixture(scope="module")
def client(service: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


def test_pages_of_items_hold_every_item_once_in_catalogue_order(client: httpx.Client) -> None:
    found: list[str] = []
    after: str | None = None
    while True:
        page = client.get("/items", params={"limit": 20} | ({"after": after} if after else {})).json()
        found += [item["item_id"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert found == [f"I{row:03d}" for row in range(48)]


def test_a_search_finds_names_that_hold_all_words(client: httpx.Client) -> None:
    titles = [item["title"] for item in client.get("/items", params={"q": "MUG red"}).json()["items"]]
    assert titles == ["Red mug number 0", "Red mug number 16", "Red mug number 32"]


def test_a_search_finds_parts_of_words_from_three_letters_on_and_beginnings_of_words_below(
    client: httpx.Client,
) -> None:
    def found(q: str) -> list[str]:
        return [
            item["item_id"] for item in client.get("/items", params={"q": q, "limit": 100}).json()["items"]
        ]

    assert found("LAM red") == found("amp r") == ["I004", "I020", "I036"]
    assert found("am r") == []
    assert found("mug mug & MUG") == found("mug")


def test_pages_of_a_search_hold_every_match_once_in_catalogue_order(client: httpx.Client) -> None:
    found: list[str] = []
    query: dict[str, str | int] = {"q": "mug", "limit": 5}
    while True:
        page = client.get("/items", params=query).json()
        found += [item["item_id"] for item in page["items"]]
        if page["next"] is None:
            break
        query["after"] = page["next"]
    assert found == [f"I{row:03d}" for row in range(48) if row // 4 % 4 == 0]


def test_a_search_for_too_many_words_is_refused_with_the_number_allowed(client: httpx.Client) -> None:
    response = client.get("/items", params={"q": " ".join(f"w{number}" for number in range(17))})
    assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json")
    assert response.json()["detail"].startswith("q has 17 different words and at most 16")


def test_a_search_without_a_match_is_an_empty_page(client: httpx.Client) -> None:
    assert client.get("/items", params={"q": "☃ 'or 1=1"}).json() == {"items": [], "next": None}


def test_one_item_comes_with_its_captions_and_image(client: httpx.Client) -> None:
    item = client.get("/items/I000").json()
    assert item["title"] == "Red mug number 0"
    assert item["categories"] == ["Home", "Mugs"]
    assert item["captions"] == {"simulator": "A red mug."}
    image = client.get(item["image_url"])
    assert image.headers["content-type"] == "image/png"
    assert image.content.startswith(b"\x89PNG")
    assert image.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert image.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/", "/items", "/items/", "/items/I000", "/items/I000/image", "/assets/page.js"]
)
def test_head_is_answered_as_get_without_the_body(path: str, client: httpx.Client) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    same = ("content-length", "content-type", "content-security-policy")
    assert [head.headers.get(name) for name in same] == [get.headers.get(name) for name in same]


@pytest.mark.parametrize("asked", ["bytes=0-3", "bytes=99999999-", "bytes=x", "items=1"])
def test_a_range_of_a_picture_is_the_whole_picture(asked: str, client: httpx.Client) -> None:
    whole = client.get("/items/I000/image")
    part = client.get("/items/I000/image", headers={"range": asked})
    assert (part.status_code, part.content) == (200, whole.content)
    assert part.headers["accept-ranges"] == "none"


@pytest.mark.parametrize(
    "path",
    ["/items/nothing", "/items/I005/image", "/items/nothing/image", "/items/%2e%2e%2fmanifest.json/image",
     "/items/..%2f..%2fetc%2fpasswd", "/users/nobody/history"],
)  # fmt: skip
def test_what_is_not_there_is_a_404_problem(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path",
    ["/items?limit=0", "/items?limit=101", "/items?after=nothing", "/users?limit=x", "/users?after=nobody"],
)
def test_a_wrong_page_is_a_422_problem(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"


def test_pages_of_users_hold_every_user_once(client: httpx.Client) -> None:
    first = client.get("/users", params={"limit": 10}).json()
    second = client.get("/users", params={"limit": 10, "after": first["next"]}).json()
    users = [*first["users"], *second["users"]]
    assert [user["user_id"] for user in users] == [f"u{number}" for number in range(12)]
    assert second["next"] is None
    assert users[1]["interactions"] == 4


def test_the_next_recommendation_sees_an_event(client: httpx.Client) -> None:
    event = {"user_id": "new", "item_id": "I000", "timestamp": 5}
    assert client.post("/events", json={"events": [event]}).json() == {
        "stored": 1,
        "repeated": 0,
        "dropped": 0,
    }
    answer = client.post("/recommend", json={"user_id": "new", "k": 2}).json()
    assert answer["outcome"] == "ok"
    assert [item["item_id"] for item in answer["items"]] == ["I016", "I032"]


def test_events_follow_the_stored_history_in_the_order_of_their_timestamps(client: httpx.Client) -> None:
    events = [{"user_id": "u5", "item_id": item, "timestamp": at} for item, at in (("I002", 9), ("I001", 8))]
    before = [item["item_id"] for item in client.get("/users/u5/history").json()["items"]]
    assert client.post("/events", json={"events": events}).status_code == 200
    after = [item["item_id"] for item in client.get("/users/u5/history").json()["items"]]
    assert after == [*before, "I001", "I002"]


def test_a_batch_with_an_unknown_item_stores_nothing(client: httpx.Client) -> None:
    events = [{"user_id": "u6", "item_id": item, "timestamp": 1} for item in ("I001", "X9")]
    before = client.get("/users/u6/history").json()
    response = client.post("/events", json={"events": events})
    assert response.status_code == 422
    assert response.json()["detail"] == "nothing was stored; unknown items: X9"
    assert client.get("/users/u6/history").json() == before


@pytest.mark.parametrize(
    "body",
    [{}, {"events": []}, {"events": [{"user_id": "u1", "item_id": "I000"}]},
     {"events": [{"user_id": "u1", "item_id": "I000", "timestamp": -1}]},
     {"events": [{"user_id": "u1", "item_id": "I000", "timestamp": 1.5}]},
     {"events": [{"user_id": "u1", "item_id": "I000", "timestamp": 1}] * 1_001}],
)  # fmt: skip
def test_a_wrong_batch_is_refused(client: httpx.Client, body: object) -> None:
    assert client.post("/events", json=body).status_code == 422


def test_health_says_what_is_served(client: httpx.Client) -> None:
    assert client.get("/health/live").json()["status"] == "alive"
    ready = client.get("/health/ready").json()
    assert ready["status"] == "ready"
    assert ready["degraded"] == []
    assert ready["bundle"]["items"] == 48
    assert set(ready["bundle"]["backbones"]) == {"blocks-raw", "blocks-enhanced", "pop", "random"}


def test_the_page_is_served_with_a_policy_that_allows_only_ourselves(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "MSR Serve" in page.text


def test_every_recommendation_leaves_one_json_line_without_user_or_item(
    client: httpx.Client, service: RunningService
) -> None:
    client.post("/recommend", json={"user_id": "u3"}, headers={"x-request-id": "find-me"})
    lines: list[str] = []
    for _ in range(100):  # the line follows the answer
        lines = [line for line in service.log.splitlines() if "find-me" in line]
        if lines:
            break
        time.sleep(0.02)
    assert len(lines) == 1
    line = json.loads(lines[0])
    assert (line["status"], line["strategy"], line["outcome"]) == (200, "none", "ok")
    assert "u3" not in lines[0].replace("find-me", "")


def test_a_key_is_asked_for_where_one_is_set(bundle_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(
        bundle=bundle_folder, simulator_url="http://127.0.0.1:9", api_key=SecretStr("open s3cr3t")
    )
    with TestClient(create_app(settings), "http://127.0.0.1") as client:
        for headers, status in (
            ({}, 401),
            ({"authorization": "Bearer wrong"}, 401),
            ({"x-api-key": ""}, 401),
            ({"authorization": "Bearer open s3cr3t"}, 200),
            ({"x-api-key": "open s3cr3t"}, 200),
        ):
            response = client.post("/recommend", json={"user_id": "u1"}, headers=headers)
            assert response.status_code == status
            if status == 401:
                assert response.headers["content-type"] == "application/problem+json"
        for path in ("/", "/metrics", "/health/live", "/health/ready"):
            assert client.get(path).status_code == 200
        assert client.get("/users").status_code == 401
    assert "open s3cr3t" not in caplog.text


async def test_other_requests_go_on_while_a_long_history_is_answered(bundle_folder: Path) -> None:
    catalogue, passes = open_catalogue(bundle_folder / CATALOGUE), 0
    answering = asyncio.create_task(item_answers(catalogue, [0, 1] * 1_000, Links()))
    while not answering.done():
        await asyncio.sleep(0)
        passes += 1
    assert [item.item_id for item in answering.result()] == ["I000", "I001"] * 1_000
    assert passes >= 20
