"""A server that takes no pictures: what it is sent instead, and what the answer says of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from controlled_provider import ControlledProvider, ranks
from lvlm_parts import open_stage

from service.catalogue.bundle import Catalogue, open_bundle
from service.lvlm.contracts import Outcome, Shown, StageRequest
from service.lvlm.providers.base import Call, Image, Source, Text, TextDelta
from service.strategies import STRATEGIES

BLIND = Source("m", blind=True)
WARNING = "no images: fake/gpt-4o takes none, so the history is shown by title alone"
HISTORY = (20, 21, 23)  # 23 has no picture


@pytest.fixture(scope="module")
def catalogue(bundle_folder: Path) -> Catalogue:
    return open_bundle(bundle_folder).catalogue


def ask(strategy: str = "s3", **changes: Any) -> StageRequest:
    request = StageRequest(
        STRATEGIES[strategy], HISTORY, tuple(range(10)), 3, provider="fake", model="gpt-4o"
    )
    return replace(request, **changes)


def history_of(call: Call) -> list[dict[str, Any]]:
    (text,) = [part.text for part in call.prompt.parts if isinstance(part, Text)]
    shown: list[dict[str, Any]] = json.loads(text.removeprefix("<data>\n").removesuffix("\n</data>"))[
        "history"
    ]
    return shown


@pytest.mark.parametrize("modality", ["image", "title+image"])
@pytest.mark.parametrize("image_mode", ["grid", "separate"])
async def test_the_prompt_without_pictures_shows_titles_and_speaks_of_no_picture(
    catalogue: Catalogue, modality: str, image_mode: str
) -> None:
    async with open_stage(catalogue, []) as opened:
        call = await opened.stage.prompt(ask(modality=modality, image_mode=image_mode))
    assert any(isinstance(part, Image) for part in call.prompt.parts)
    blind = call.text_only
    assert not any(isinstance(part, Image) for part in blind.prompt.parts)
    assert history_of(blind) == [{"title": catalogue.items[row].name} for row in HISTORY]
    assert "picture shows" not in blind.prompt.system
    assert blind.prompt.answer_schema == call.prompt.answer_schema
    assert blind.prompt.without_images is None


@pytest.mark.parametrize(("strategy", "modality"), [("s3", "title"), ("s5", "title+image")])
async def test_a_prompt_that_has_no_picture_has_no_other_one(
    catalogue: Catalogue, strategy: str, modality: str
) -> None:
    async with open_stage(catalogue, []) as opened:
        call = await opened.stage.prompt(ask(strategy, modality=modality))
    assert call.prompt.without_images is None
    assert call.text_only.prompt.parts == call.prompt.parts


@pytest.mark.parametrize("modality", ["image", "title+image"])
async def test_the_answer_says_that_no_picture_was_shown_and_so_does_the_cached_one(
    catalogue: Catalogue, modality: str
) -> None:
    provider = ControlledProvider([BLIND, *ranks("C", "A", "B")])
    async with open_stage(catalogue, [provider]) as opened:
        first = await opened.stage.rerank(ask(modality=modality))
        second = await opened.stage.rerank(ask(modality=modality))
        assert len(provider.calls) == 1
    assert (first.outcome, first.cache, second.cache) == (Outcome.OK, "miss", "hit")
    for result in (first, second):
        assert result.shown == Shown(titles=3, images=0, captions=0)
        assert result.warnings == (WARNING,)


@pytest.mark.usefixtures("clock")
async def test_a_partial_answer_says_so_too(catalogue: Catalogue) -> None:
    provider = ControlledProvider([BLIND, TextDelta('{"ranking": ["C", "A'), asyncio.Event()])
    async with open_stage(catalogue, [provider]) as opened:
        result = await opened.stage.rerank(ask(deadline=0.5))
    assert result.outcome is Outcome.PARTIAL
    assert result.shown.images == 0
    assert result.warnings == (WARNING,)


async def test_a_server_that_takes_pictures_is_shown_them(catalogue: Catalogue) -> None:
    provider = ControlledProvider([Source("m"), *ranks("C", "A", "B")])
    async with open_stage(catalogue, [provider]) as opened:
        result = await opened.stage.rerank(ask())
    assert result.shown.images == 2
    assert result.warnings == ("1 items of the history have no readable image",)
