"""Tests that a generation is swapped whole, and that a request under way keeps its own."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from bundles import write_bundle
from served import served, simulator_served

from service.catalogue.bundle import Catalogue
from service.generation import CurrentGeneration, Generation
from service.lvlm.contracts import StageRequest, StageResult
from service.settings import Settings
from service.wiring.application import create_app
from service.wiring.candidates import open_generation

WATCHED = {"accept": "text/event-stream"}


@dataclass(frozen=True)
class Running:
    """A service on one bundle, and the generation of another that can take its place."""

    http: httpx.AsyncClient
    services: Any
    next: Generation

    @property
    def current(self) -> CurrentGeneration:
        current: CurrentGeneration = self.services.generation
        return current

    async def get(self, path: str) -> Any:
        return (await self.http.get(path)).json()

    async def recommend(self, strategy: str, **body: Any) -> Any:
        answer = await self.http.post(f"/recommend?strategy={strategy}", json={"k": 3, **body})
        return answer.json()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """Items ``A…`` are served, and items ``B…`` of other users wait."""
    now = write_bundle(tmp_path / "now", prefix="A")
    later = write_bundle(tmp_path / "later", items=24, users=4, enhanced=False, prefix="B")
    async with simulator_served() as url:
        app = create_app(Settings(bundle=now, simulator_url=url))
        async with (
            served(app, lifespan="on") as address,
            httpx.AsyncClient(base_url=address, timeout=30, trust_env=False) as http,
        ):
            settings = Settings(bundle=later, simulator_url=url)
            yield Running(http, app.state.services, open_generation(settings))


def item_ids(answer: Any) -> set[str]:
    """The first letters of an answer's items: which catalogue they are of."""
    return {item["item_id"][0] for item in answer["items"]}


async def test_every_route_reads_the_new_generation_at_once(running: Running) -> None:
    assert item_ids(await running.get("/items?limit=5")) == {"A"}
    assert item_ids(await running.recommend("s3", history=["A001"])) == {"A"}
    assert item_ids(await running.get("/items?q=mug")) == {"A"}
    running.current.swap(running.next)
    assert item_ids(await running.get("/items?limit=5")) == {"B"}
    assert item_ids(await running.get("/items?q=mug")) == {"B"}
    assert (await running.http.get("/items/A001")).status_code == 404
    assert (await running.get("/items/B001"))["item_id"] == "B001"
    assert (await running.http.get("/items/A001/image")).status_code == 404
    assert (await running.http.get("/items/B001/image")).status_code == 200
    assert len((await running.get("/users"))["users"]) == 4
    assert (await running.http.get("/users/u7/history")).status_code == 404
    assert item_ids(await running.get("/users/u1/history")) == {"B"}
    event = {"user_id": "u1", "timestamp": 1}
    assert (await running.http.post("/events", json={"events": [{**event, "item_id": "A001"}]})).is_error
    assert (await running.http.post("/events", json={"events": [{**event, "item_id": "B001"}]})).is_success
    assert (await running.get("/users/u1/history"))["items"][-1]["item_id"] == "B001"
    ready = (await running.get("/health/ready"))["bundle"]
    assert (ready["items"], ready["users"], list(ready["backbones"])) == (
        24,
        4,
        ["blocks-raw", "pop", "random"],
    )


@pytest.mark.parametrize("strategy", ["none", "s1", "s3", "s4", "s5"])
async def test_every_strategy_ranks_and_shows_the_new_generation(strategy: str, running: Running) -> None:
    running.current.swap(running.next)
    answer = await running.recommend(strategy, history=["B001", "B002", "A003"])
    assert (item_ids(answer), answer["served"]) == ({"B"}, strategy)
    assert answer["backbone"]["version"] == running.next.bundle.backbones["blocks-raw"].manifest.version
    assert any("A003" in warning for warning in answer["warnings"])
    if strategy != "none":  # titles, pictures and captions are of the new catalogue too
        assert answer["lvlm"]["shown"]["images" if strategy in ("s1", "s3") else "captions"] == 2


async def test_a_user_without_a_history_gets_what_is_popular_in_the_new_generation(running: Running) -> None:
    running.current.swap(running.next)
    answer = await running.recommend("none", user_id="u7")
    assert (item_ids(answer), answer["outcome"]) == ({"B"}, "cold_start")


async def test_a_backbone_of_the_old_generation_is_gone(running: Running) -> None:
    assert (await running.recommend("s2", history=["A001"]))["backbone"]["name"] == "blocks-enhanced"
    running.current.swap(running.next)
    assert "this bundle has none" in (await running.recommend("s2", history=["B001"]))["detail"]


class Held:
    """A reranker that waits until it is let go, and then asks the real one."""

    def __init__(self, whole: Any) -> None:
        self._whole = whole
        self.reached, self.let_go = asyncio.Event(), asyncio.Event()

    async def rerank(
        self,
        request: StageRequest,
        catalogue: Catalogue,
        on_prefix: Callable[[Sequence[int]], None] | None = None,
    ) -> StageResult:
        self.reached.set()
        await self.let_go.wait()
        result: StageResult = await self._whole.rerank(request, catalogue, on_prefix)
        return result


@pytest.mark.parametrize("headers", [{}, WATCHED], ids=["awaited", "watched"])
async def test_a_request_under_way_keeps_its_generation_to_its_answer(
    headers: dict[str, str], running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender = running.services.recommender
    held = Held(recommender._reranker)
    monkeypatch.setattr(recommender, "_reranker", held)
    body = {"history": ["A030", "A031"], "k": 40}  # rows that the next generation does not have
    asking = asyncio.create_task(running.http.post("/recommend?strategy=s3", json=body, headers=headers))
    await held.reached.wait()
    running.current.swap(running.next)
    held.let_go.set()
    text = (await asking).text
    answer = json.loads(text.rpartition("data: ")[2])
    assert (answer["outcome"], answer["served"], len(answer["items"])) == ("ok", "s3", 40)
    assert item_ids(answer) == {"A"}
    assert '"B0' not in text
    assert item_ids(await running.get("/items")) == {"B"}


async def test_nothing_holds_a_part_of_a_generation_that_was_swapped_out(running: Running) -> None:
    for strategy in ("none", "s2", "s3", "s5"):
        assert item_ids(await running.recommend(strategy, user_id="u1")) == {"A"}
    await running.get("/users/u1/history")
    held = [weakref.ref(part) for part in (running.current.get(), running.current.get().catalogue)]
    held += [weakref.ref(model) for model in running.current.get().models.values()]
    running.current.swap(running.next)
    gc.unfreeze()  # the start froze it
    for _ in range(100):
        gc.collect()
        if not any(each() for each in held):
            break
        await asyncio.sleep(0.01)  # a task of the last request ends
    assert not any(each() for each in held)
