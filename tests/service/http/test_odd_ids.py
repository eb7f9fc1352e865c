"""Tests that ids of any kind that a bundle may hold work on every route."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from bundles import write_bundle
from served import service_served

from models.contracts.ids import id_problem

IDS = [
    "a",
    "a/image",
    "/image",
    "a/history",
    "/",
    "a/",
    "a/../b",
    "%2F",
    "a%2Fimage",
    "?limit=1#x",
    "☃ é",
    "☃" * 256,
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("odd"), enhanced=False, ids=IDS)


@pytest.fixture
async def http(bundle: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with service_served(bundle, simulator_url="http://127.0.0.1:1") as http:
        yield http


async def test_every_route_that_names_an_item_or_a_user_takes_any_id(http: httpx.AsyncClient) -> None:
    for number, public_id in enumerate(IDS):
        assert id_problem(public_id) is None
        path = f"/items/{quote(public_id, safe='')}"
        item = (await http.get(path)).json()
        assert item["item_id"] == public_id
        if number % 6 != 5:
            assert item["image_url"] == f"{path}/image"
            assert (await http.get(item["image_url"])).headers["content-type"] == "image/png"
        found = await http.get("/items", params={"after": public_id, "limit": 1})
        assert found.status_code == 200
        body = {"history": [public_id], "exclude": [public_id], "candidates": ["I030"], "user_id": public_id}
        assert (await http.post("/recommend", json=body)).json()["items"][0]["item_id"] == "I030"
        event = {"user_id": public_id, "item_id": public_id, "timestamp": 1}
        assert (await http.post("/events", json={"events": [event]})).status_code == 200
        history = (await http.get(f"/users/{quote(public_id, safe='')}/history")).json()
        assert (history["user_id"], [item["item_id"] for item in history["items"]]) == (
            public_id,
            [public_id],
        )


async def test_a_decoded_slash_names_a_route_and_an_encoded_one_an_id(http: httpx.AsyncClient) -> None:
    assert (await http.get("/items/a/image")).headers["content-type"] == "image/png"
    assert (await http.get("/items/a%2Fimage")).json()["item_id"] == "a/image"
    assert (await http.get("/items/a%2fimage")).json()["item_id"] == "a/image"
    assert (await http.get("/items/I030%2Fimage")).status_code == 404
    assert (await http.get("/users/u1%2Fhistory")).status_code in (404, 405)


async def test_an_id_over_256_characters_is_refused_by_every_route(http: httpx.AsyncClient) -> None:
    long = "é" * 257
    for path in (f"/items/{long}", f"/items/{long}/image", f"/users/{long}/history", f"/items?after={long}"):
        assert (await http.get(path)).status_code == 422
