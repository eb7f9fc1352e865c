"""The prompt shows the history and the pool as the request's strategy, view and modality say."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from lvlm_parts import data_of, parts_of, pictures_of
from stage_parts import GOOD, HISTORY, POOL, answer, ask, body_of, rerank

from service.catalogue.bundle import Catalogue, open_bundle
from service.lvlm.contracts import Outcome, Shown


@pytest.fixture(scope="module")
def catalogue(bundle_folder: Path) -> Catalogue:
    return open_bundle(bundle_folder).catalogue


async def test_reranking_shows_the_pool_in_its_order(catalogue: Catalogue) -> None:
    pool = (7, 3, 11, 2)
    data = data_of(await body_of(catalogue, ask("s3", pool=pool)))
    assert [candidate["title"] for candidate in data["candidates"]] == [
        catalogue.items[row].name for row in pool
    ]
    assert data["order"] == "ranked"


async def test_recommending_shows_the_same_shuffle_whatever_the_request_order(catalogue: Catalogue) -> None:
    one = data_of(await body_of(catalogue, ask("s1", pool=POOL)))
    two = data_of(await body_of(catalogue, ask("s1", pool=POOL[::-1])))
    assert one["candidates"] == two["candidates"]
    assert one["order"] == "shuffled"
    names = [catalogue.items[row].name for row in POOL]
    shown = [candidate["title"] for candidate in one["candidates"]]
    assert sorted(shown) == sorted(names)
    assert shown not in (names, names[::-1])


async def test_another_history_shuffles_the_pool_in_another_way(catalogue: Catalogue) -> None:
    one = data_of(await body_of(catalogue, ask("s1")))
    two = data_of(await body_of(catalogue, ask("s1", history=(1, 2, 3))))
    assert one["candidates"] != two["candidates"]


async def test_the_last_ten_items_of_the_history_are_shown_oldest_first(catalogue: Catalogue) -> None:
    data = data_of(await body_of(catalogue, ask("s3")))
    assert [entry["title"] for entry in data["history"]] == [
        catalogue.items[row].name for row in HISTORY[-10:]
    ]


async def test_only_as_many_labels_as_needed_are_asked_for(catalogue: Catalogue) -> None:
    assert data_of(await body_of(catalogue, ask(k=3)))["top"] == 3
    assert data_of(await body_of(catalogue, ask(k=50)))["top"] == len(POOL)


@pytest.mark.parametrize(
    ("modality", "image_mode", "pictures", "keys"),
    [
        ("title", "grid", 0, {"title"}),
        ("image", "grid", 1, {"cell"}),
        ("title+image", "grid", 1, {"title", "cell"}),
        ("title+image", "strip", 1, {"title", "cell"}),
        ("title+image", "separate", 8, {"title", "cell"}),
    ],
)
async def test_the_raw_view_shows_what_the_modality_says(
    catalogue: Catalogue, modality: str, image_mode: str, pictures: int, keys: set[str]
) -> None:
    body = await body_of(catalogue, ask("s1", modality=modality, image_mode=image_mode))
    assert pictures_of(body) == pictures
    assert set().union(*data_of(body)["history"]) == keys


async def test_cells_number_the_items_that_have_a_picture(catalogue: Catalogue) -> None:
    data = data_of(await body_of(catalogue, ask("s3")))
    cells = [entry.get("cell") for entry in data["history"]]
    expected = iter(range(1, 9))
    assert cells == [next(expected) if catalogue.items[row].image else None for row in HISTORY[-10:]]


async def test_the_enhanced_view_shows_captions_and_no_picture(catalogue: Catalogue) -> None:
    body = await body_of(catalogue, ask("s5"))
    assert pictures_of(body) == 0
    history = data_of(body)["history"]
    assert history[0]["caption"] == catalogue.captions["simulator"][HISTORY[-10]]
    assert [("caption" in entry) for entry in history] == [row < 24 for row in HISTORY[-10:]]


async def test_shown_counts_and_warnings_say_what_was_missing(catalogue: Catalogue) -> None:
    raw, _ = await rerank(catalogue, answer("openai", *GOOD), ask("s3"))
    assert raw.shown == Shown(titles=10, images=8, captions=0, without_image=2)
    assert raw.warnings == ("2 items of the history have no readable image",)
    bare, _ = await rerank(catalogue, answer("openai", *GOOD), ask("s3", history=(5, 11)))
    assert bare.shown == Shown(titles=2, images=0, captions=0, without_image=2)
    assert bare.warnings[0].startswith("no images:")
    uncaptioned, _ = await rerank(catalogue, answer("openai", *GOOD), ask("s4", history=(30, 31)))
    assert uncaptioned.shown == Shown(titles=2, images=0, captions=0)
    assert uncaptioned.warnings[0].startswith("no captions:")


async def test_a_model_without_a_price_works_and_says_so(catalogue: Catalogue) -> None:
    result, _ = await rerank(catalogue, answer("openai", *GOOD), ask("s1", model="mystery", modality="title"))
    assert result.outcome is Outcome.OK
    assert result.bill.cost_usd is None
    assert result.warnings == ("no price is known for the model mystery: its cost is not counted",)


async def test_an_explanation_is_given_only_when_asked_and_then_escaped(catalogue: Catalogue) -> None:
    reply = answer("openai", *GOOD, explanation="<b>Because</b> \u202eof blue" + "!" * 900)
    asked, _ = await rerank(catalogue, reply, ask(explain=True))
    assert asked.answer.parsed.explanation is not None
    assert asked.answer.parsed.explanation.startswith("&lt;b&gt;Because&lt;/b&gt; of blue!")
    assert len(asked.answer.parsed.explanation) < 700
    unasked, _ = await rerank(catalogue, reply, ask(explain=False))
    assert unasked.answer.parsed.explanation is None


async def test_the_papers_form_lists_titles_and_asks_for_all_of_them(catalogue: Catalogue) -> None:
    text = parts_of(await body_of(catalogue, ask("s3", form="paper")))[-1]["text"]
    lines = text.split("\n")
    history = next(after for line, after in pairwise(lines) if line.endswith("oldest first:"))
    pool = next(after for line, after in pairwise(lines) if line.endswith("candidates:"))
    assert json.loads(history) == [catalogue.items[row].name for row in HISTORY[-10:]]
    assert json.loads(pool) == [catalogue.items[row].name for row in POOL]
