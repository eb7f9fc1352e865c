"""Captions are shown if they exist, and are made in the background if they do not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from lvlm_parts import SCRIPTS, BrokenCache, connect, open_stage
from scripted_server import Reply, scripted_server

from service.catalogue.bundle import Catalogue, open_bundle
from service.lvlm.captions import MAX_PENDING, captioner_name
from service.lvlm.cost.budgets_and_quotas import RateLimit
from service.stores.base import BURST
from service.stores.memory import MemoryCache

pytestmark = pytest.mark.usefixtures("clock")

MUG = SCRIPTS["openai"].plain("A blue\nmug.")


@pytest.fixture(scope="module")
def catalogue(bundle_folder: Path) -> Catalogue:
    """Rows 0 to 23 have a bundled caption; every sixth row from 5 has no picture."""
    return open_bundle(bundle_folder).catalogue


def writing() -> list[asyncio.Task[object]]:
    """The captions being written now."""
    return [task for task in asyncio.all_tasks() if "Captions._make" in repr(task.get_coro())]


async def written() -> None:
    """Wait until all captions that were begun are done with."""
    async with asyncio.timeout(5):
        await asyncio.gather(*writing())


async def test_the_bundles_captions_come_first_and_cost_nothing(catalogue: Catalogue) -> None:
    async with (
        scripted_server(MUG) as server,
        open_stage(catalogue, [connect("openai", server.url)]) as opened,
    ):
        assert (await opened.captions.read([3, 4], "openai", "m")).captions == {
            3: "A white mug.",
            4: "A red lamp.",
        }
        assert server.requests == []


async def test_a_missing_caption_is_there_at_the_next_request(catalogue: Catalogue) -> None:
    async with (
        scripted_server(MUG) as server,
        open_stage(catalogue, [connect("openai", server.url)], fill=True) as opened,
    ):
        assert (await opened.captions.read([24, 3], "openai", "m")).captions == {3: "A white mug."}
        await written()
        assert (await opened.captions.read([24, 3], "openai", "m")).captions == {
            24: "A blue mug.",
            3: "A white mug.",
        }
        assert len(server.requests) == 1
        assert opened.count("msr_lvlm_tokens_total", provider="openai", model="m", direction="output") == 7


async def test_captions_of_one_model_are_not_anothers(catalogue: Catalogue) -> None:
    async with (
        scripted_server(MUG) as server,
        open_stage(catalogue, [connect("openai", server.url)], fill=True) as opened,
    ):
        await opened.captions.read([24], "openai", "m")
        await written()
        assert (await opened.captions.read([24], "openai", "other")).captions == {}


async def test_one_image_is_asked_for_once_at_a_time(catalogue: Catalogue) -> None:
    slow = Reply([0.5, *MUG.steps], content_type="application/json")
    async with (
        scripted_server(slow) as server,
        open_stage(catalogue, [connect("openai", server.url)], fill=True) as opened,
    ):
        for _ in range(5):
            await opened.captions.read([24, 24], "openai", "m")
        await written()
        assert len(server.requests) == 1


async def test_an_item_without_a_picture_is_not_asked_for(catalogue: Catalogue) -> None:
    async with (
        scripted_server(MUG) as server,
        open_stage(catalogue, [connect("openai", server.url)], fill=True) as opened,
    ):
        assert (await opened.captions.read([29, 35], "openai", "m")).captions == {}
        await asyncio.sleep(0.1)
        assert server.requests == []


async def test_captions_beyond_the_limit_of_pending_ones_are_not_begun(catalogue: Catalogue) -> None:
    items = tuple(
        replace(item, image="I000.png", image_sha256=f"{row}") for row, item in enumerate(catalogue.items * 4)
    )
    crowded = replace(catalogue, items=items, captions={})
    async with (
        scripted_server(Reply([30.0])) as server,
        open_stage(crowded, [connect("openai", server.url)], fill=True) as opened,
    ):
        await opened.captions.read(range(len(items)), "openai", "m")
        assert len(items) > MAX_PENDING
        assert len(writing()) == MAX_PENDING


@pytest.mark.parametrize(
    "reply",
    [
        SCRIPTS["openai"].error(500, "server_error"),
        SCRIPTS["openai"].plain("A mug that is cut in the mid", reason="length"),
        SCRIPTS["openai"].plain(" \u200b "),
    ],
    ids=["failed", "cut", "empty"],
)
async def test_what_is_no_caption_is_not_kept(catalogue: Catalogue, reply: Reply) -> None:
    cache = MemoryCache(10**6)
    async with (
        scripted_server(reply) as server,
        open_stage(catalogue, [connect("openai", server.url)], fill=True, cache=cache) as opened,
    ):
        await opened.captions.read([24], "openai", "m")
        await written()
        assert len(server.requests) == 1
        assert opened.count("msr_cache_events_total", cache="captions", result="stored") == 0


async def test_an_unfinished_captioner_hides_no_captions_of_others(catalogue: Catalogue) -> None:
    unfinished = {**catalogue.captions, "a-new-one": {}, "openai-m": {3: "A mug by m."}}
    async with open_stage(replace(catalogue, captions=unfinished), []) as opened:
        assert (await opened.captions.read([3, 4], "openai", "m")).captions == {
            3: "A mug by m.",
            4: "A red lamp.",
        }


async def test_a_caption_that_was_never_asked_for_is_tried_at_the_next_request(catalogue: Catalogue) -> None:
    limits = {"openai": RateLimit(requests_per_minute=60 / BURST)}  # one now, and no other for a while
    async with (
        scripted_server(MUG) as server,
        open_stage(catalogue, [connect("openai", server.url)], fill=True, limits=limits) as opened,
    ):
        for row in (24, 25):
            await opened.captions.read([row], "openai", "m")
            await written()
        assert len(server.requests) == 1
        await asyncio.gather(*opened.gateway._backend.quota._settling)
        opened.gateway._backend.quota._meters._full_at.clear()  # the minute is over
        for expected in ({}, {25: "A blue mug."}):
            assert (await opened.captions.read([25], "openai", "m")).captions == expected
            await written()


async def test_a_configured_captioner_is_used_alone(catalogue: Catalogue) -> None:
    captions = {"mine": {1: "Mine."}, "simulator": {1: "Theirs."}}
    both = replace(catalogue, captions=captions)
    async with open_stage(both, [], captioner="simulator") as opened:
        assert (await opened.captions.read([1], "openai", "m")).captions == {1: "Theirs."}
    async with open_stage(replace(catalogue, captions={**captions, "openai-m": {1: "Own."}}), []) as opened:
        assert (await opened.captions.read([1], "openai", "m")).captions == {1: "Own."}


async def test_a_broken_cache_leaves_the_bundles_captions(catalogue: Catalogue) -> None:
    async with open_stage(catalogue, [], cache=BrokenCache()) as opened:
        assert (await opened.captions.read([3, 24], "openai", "m")).captions == {3: "A white mug."}
        assert opened.count("msr_cache_events_total", cache="captions", result="error") == 1


async def test_closing_gives_up_on_captions_being_written(catalogue: Catalogue) -> None:
    async with scripted_server(Reply([30.0])) as server:
        async with (
            asyncio.timeout(5),
            open_stage(catalogue, [connect("openai", server.url)], fill=True) as opened,
        ):
            await opened.captions.read([24], "openai", "m")
            await asyncio.sleep(0.3)
        async with asyncio.timeout(5):
            await server.disconnected.wait()


@pytest.mark.parametrize("model", ["org/model:latest", "../../etc", "a b"])
def test_a_captioners_name_is_safe_as_a_file_name(model: str) -> None:
    name = captioner_name("openai", model)
    assert Path(name).name == name
    assert " " not in name
    assert ":" not in name


async def test_nothing_is_asked_for_while_captions_cannot_be_kept(catalogue: Catalogue) -> None:
    async with (
        scripted_server(MUG) as server,
        open_stage(catalogue, [connect("openai", server.url)], fill=True, cache=BrokenCache()) as opened,
    ):
        for _ in range(3):
            assert (await opened.captions.read([24], "openai", "m")).captions == {}
            await written()
        assert server.requests == []


async def test_an_image_whose_caption_failed_is_not_tried_at_every_request(catalogue: Catalogue) -> None:
    async with (
        scripted_server(SCRIPTS["openai"].error(500, "server_error")) as server,
        open_stage(catalogue, [connect("openai", server.url)], fill=True) as opened,
    ):
        for _ in range(3):
            assert (await opened.captions.read([24], "openai", "m")).captions == {}
            await written()
        assert len(server.requests) == 1
