"""The stage from request to result, through the real SDKs on real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from lvlm_parts import SCRIPTS, BrokenCache, Opened, connect, data_of, open_stage, parts_of, pictures_of
from moved_clock import MovedClock
from scripted_server import Reply, ScriptedServer, scripted_server
from simulator_process import start_simulator

from service.catalogue.bundle import Catalogue, open_bundle
from service.lvlm import montage, prompts
from service.lvlm.answer_cache import Lifetimes, StoredAnswer
from service.lvlm.answers import Answer
from service.lvlm.providers.base import Usage
from service.lvlm.stage import Outcome, Shown, StageRequest, StageResult
from service.stores.memory import MemoryCache
from service.strategies import STRATEGIES

HISTORY = tuple(
    range(20, 32)
)  # twelve: two more than are shown; 23 and 29 have no picture, 24 to 31 no caption
POOL = tuple(range(30))
WIRES = ["openai", "anthropic"]


@pytest.fixture(scope="module")
def catalogue(bundle_folder: Path) -> Catalogue:
    return open_bundle(bundle_folder).catalogue


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    with start_simulator() as url:
        yield url


def ask(strategy: str = "s3", provider: str = "openai", **changes: Any) -> StageRequest:
    request = StageRequest(STRATEGIES[strategy], HISTORY, POOL, k=5, provider=provider, model="gpt-4o")
    return replace(request, **changes)


def answer(wire: str, *labels: str, **more: str) -> Reply:
    text = json.dumps({"ranking": list(labels), **more}).encode()
    return Reply(SCRIPTS[wire].stream(text))


GOOD = ("C", "A", "B", "D", "E")


@asynccontextmanager
async def playing(
    catalogue: Catalogue, *replies: Reply, wire: str = "openai", **options: Any
) -> AsyncIterator[tuple[Opened, ScriptedServer]]:
    """A stage whose one provider plays these replies."""
    async with (
        scripted_server(*replies) as server,
        open_stage(catalogue, [connect(wire, server.url)], **options) as opened,
    ):
        yield opened, server


async def rerank(catalogue: Catalogue, reply: Reply, request: StageRequest) -> tuple[StageResult, Opened]:
    async with playing(catalogue, reply, wire=request.provider) as (opened, _):
        return await opened.stage.rerank(request), opened


async def body_of(catalogue: Catalogue, request: StageRequest) -> dict[str, Any]:
    """What a request sends to its provider."""
    async with playing(catalogue, answer("openai", *GOOD)) as (opened, server):
        await opened.stage.rerank(request)
        return server.requests[0].body


# --- outcomes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("form", ["label", "paper"])
@pytest.mark.parametrize("strategy", ["s1", "s3", "s4", "s5"])
async def test_the_simulator_orders_the_pool_for_every_strategy(
    catalogue: Catalogue, simulator: str, wire: str, stream: bool, form: str, strategy: str
) -> None:
    async with open_stage(catalogue, [connect(wire, simulator)], stream=stream) as opened:
        result = await opened.stage.rerank(ask(strategy, wire, form=form, explain=True))
    assert result.outcome is Outcome.OK
    assert result.provider == "simulator"
    assert result.cost_usd == 0.0
    assert set(result.order) <= set(POOL)
    assert len(result.order) == len(set(result.order)) == (5 if form == "label" else len(POOL))
    assert result.explanation is not None
    assert result.explanation.startswith("Simulated answer:")
    assert result.usage.input_tokens > 100
    assert not result.estimated


@pytest.mark.parametrize("wire", WIRES)
async def test_labels_become_rows_and_usage_becomes_cost(catalogue: Catalogue, wire: str) -> None:
    result, opened = await rerank(catalogue, answer(wire, *GOOD), ask(provider=wire))
    assert result.order == (2, 0, 1, 3, 4)
    assert result.outcome is Outcome.OK
    assert result.provider == wire
    assert result.usage == Usage(100, 7, cached_input_tokens=40, image_tokens=85)
    assert result.cost_usd == pytest.approx((60 * 2.50 + 40 * 1.25 + 7 * 10.00) / 1e6)
    labels = {"provider": wire, "model": "gpt-4o"}
    assert opened.count("msr_lvlm_tokens_total", direction="input", **labels) == 100
    assert opened.count("msr_lvlm_tokens_total", direction="output", **labels) == 7
    assert opened.count("msr_lvlm_cost_usd_total", **labels) == pytest.approx(result.cost_usd)
    assert opened.count("msr_lvlm_call_duration_seconds_count", outcome="ok", **labels) == 1
    assert opened.count("msr_lvlm_time_to_first_token_seconds_count", **labels) == 1
    assert opened.count("msr_lvlm_inflight") == 0


async def test_faults_in_an_answer_are_repaired_and_counted(catalogue: Catalogue) -> None:
    result, opened = await rerank(catalogue, answer("openai", "C", "C", "ZZ", "a"), ask())
    assert result.outcome is Outcome.REPAIRED
    assert result.order == (2, 0)
    assert (result.invented, result.duplicated, result.missing) == (1, 1, 3)
    for kind, times in (("invented", 1), ("duplicated", 1), ("missing", 3)):
        labels = {"provider": "openai", "model": "gpt-4o", "kind": kind}
        assert opened.count("msr_lvlm_repairs_total", **labels) == times


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("wire", WIRES)
async def test_at_the_deadline_the_emitted_prefix_is_kept(
    catalogue: Catalogue, wire: str, clock: MovedClock
) -> None:
    reply = Reply(SCRIPTS[wire].stream(b'{"ranking": ["C", "A", "B', 30.0, b'"]}'))
    began = clock.now()
    result, opened = await rerank(catalogue, reply, ask(provider=wire, deadline=0.5))
    assert clock.now() - began < 0.6
    assert result.outcome is Outcome.PARTIAL
    assert result.order == (2, 0)
    assert result.estimated
    assert result.usage.input_tokens > 0
    assert result.cost_usd is not None
    assert result.cost_usd > 0
    assert opened.count("msr_fallbacks_total", reason="partial") == 1


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("wire", WIRES)
async def test_without_an_answer_in_time_the_candidate_order_stays(
    catalogue: Catalogue, wire: str, stream: bool, clock: MovedClock
) -> None:
    async with playing(catalogue, Reply([30.0]), wire=wire, stream=stream) as (opened, _):
        began = clock.now()
        result = await opened.stage.rerank(ask(provider=wire, deadline=0.3))
        seconds = clock.now() - began
    assert result.outcome is Outcome.FALLBACK_DEADLINE
    assert result.order == ()
    assert seconds <= 0.3
    assert result.estimated
    assert opened.count("msr_fallbacks_total", reason="fallback_deadline") == 1


@pytest.mark.parametrize("wire", WIRES)
async def test_a_failing_provider_leaves_the_candidate_order(catalogue: Catalogue, wire: str) -> None:
    result, opened = await rerank(catalogue, SCRIPTS[wire].error(500, "api_error"), ask(provider=wire))
    assert result.outcome is Outcome.FALLBACK_PROVIDER
    assert result.order == ()
    assert result.usage == Usage()
    assert not result.estimated
    labels = {"provider": wire, "model": "gpt-4o"}
    assert opened.count("msr_lvlm_call_duration_seconds_count", outcome="server", **labels) == 1


@pytest.mark.parametrize("wire", WIRES)
async def test_a_truncated_stream_is_a_failure_whose_tokens_count(catalogue: Catalogue, wire: str) -> None:
    reply = Reply(SCRIPTS[wire].stream(b'{"ranking": ["C", "A"', reason=None))
    result, _ = await rerank(catalogue, reply, ask(provider=wire))
    assert result.outcome is Outcome.FALLBACK_PROVIDER
    assert result.order == ()
    assert result.estimated
    assert result.usage.output_tokens > 0


@pytest.mark.parametrize("text", [b"I would rather talk about the weather.", b'{"ranking": ["ZZ"]}', b""])
async def test_an_answer_with_nothing_usable_leaves_the_candidate_order(
    catalogue: Catalogue, text: bytes
) -> None:
    result, _ = await rerank(catalogue, Reply(SCRIPTS["openai"].stream(text)), ask())
    assert result.outcome is Outcome.FALLBACK_ANSWER
    assert result.order == ()
    assert result.usage.output_tokens == 7


@pytest.mark.parametrize("wire", WIRES)
async def test_a_refusal_leaves_the_candidate_order(catalogue: Catalogue, wire: str) -> None:
    result, _ = await rerank(catalogue, Reply(SCRIPTS[wire].refusal()), ask(provider=wire))
    assert result.outcome is Outcome.FALLBACK_ANSWER


@pytest.mark.usefixtures("clock")
async def test_without_a_free_place_in_time_the_candidate_order_stays(catalogue: Catalogue) -> None:
    async with playing(catalogue, Reply([5.0]), concurrency=1) as (opened, server):
        busy = asyncio.create_task(opened.stage.rerank(ask(deadline=1.0)))
        await asyncio.sleep(0.2)
        result = await opened.stage.rerank(ask(deadline=0.2, history=HISTORY[:-1]))
        await busy
        assert len(server.requests) == 1
    assert result.outcome is Outcome.FALLBACK_LIMIT
    assert result.usage == Usage()


@pytest.mark.usefixtures("clock")
async def test_a_measurement_whose_client_goes_away_frees_its_place(catalogue: Catalogue) -> None:
    async with playing(catalogue, Reply([30.0]), answer("openai", *GOOD), concurrency=1) as (opened, _):
        gone = asyncio.create_task(opened.stage.rerank(ask(cache="off")))
        await asyncio.sleep(0.3)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        result = await opened.stage.rerank(ask())
    assert result.outcome is Outcome.OK
    labels = {"provider": "openai", "model": "gpt-4o"}
    assert opened.count("msr_lvlm_call_duration_seconds_count", outcome="cancelled", **labels) == 1
    assert opened.count("msr_lvlm_inflight") == 0


async def test_a_stage_without_candidates_is_a_fault_of_the_caller(catalogue: Catalogue) -> None:
    async with open_stage(catalogue, []) as opened:
        with pytest.raises(ValueError, match="needs candidates"):
            await opened.stage.rerank(ask(pool=()))
        with pytest.raises(ValueError, match="strategy"):
            await opened.stage.rerank(ask("none"))


# --- what is shown ----------------------------------------------------------------------------------------


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


async def test_shown_counts_and_warnings_tell_what_lacked(catalogue: Catalogue) -> None:
    raw, _ = await rerank(catalogue, answer("openai", *GOOD), ask("s3"))
    assert raw.shown == Shown(titles=10, images=8, captions=0)
    assert raw.warnings == ("2 items of the history have no readable image",)
    bare, _ = await rerank(catalogue, answer("openai", *GOOD), ask("s3", history=(5, 11)))
    assert bare.shown == Shown(titles=2, images=0, captions=0)
    assert bare.warnings[0].startswith("no images:")
    uncaptioned, _ = await rerank(catalogue, answer("openai", *GOOD), ask("s4", history=(30, 31)))
    assert uncaptioned.shown == Shown(titles=2, images=0, captions=0)
    assert uncaptioned.warnings[0].startswith("no captions:")


async def test_a_model_without_a_price_works_and_says_so(catalogue: Catalogue) -> None:
    result, _ = await rerank(catalogue, answer("openai", *GOOD), ask("s1", model="mystery", modality="title"))
    assert result.outcome is Outcome.OK
    assert result.cost_usd is None
    assert result.warnings == ("no price is known for the model mystery: its cost is not counted",)


async def test_an_explanation_is_given_only_when_asked_and_then_escaped(catalogue: Catalogue) -> None:
    reply = answer("openai", *GOOD, explanation="<b>Because</b> \u202eof blue" + "!" * 900)
    asked, _ = await rerank(catalogue, reply, ask(explain=True))
    assert asked.explanation is not None
    assert asked.explanation.startswith("&lt;b&gt;Because&lt;/b&gt; of blue!")
    assert len(asked.explanation) < 700
    unasked, _ = await rerank(catalogue, reply, ask(explain=False))
    assert unasked.explanation is None


async def test_the_papers_form_lists_titles_and_asks_for_all_of_them(catalogue: Catalogue) -> None:
    text = parts_of(await body_of(catalogue, ask("s3", form="paper")))[-1]["text"]
    lines = text.split("\n")
    history = next(after for line, after in pairwise(lines) if line.endswith("oldest first:"))
    pool = next(after for line, after in pairwise(lines) if line.endswith("candidates:"))
    assert json.loads(history) == [catalogue.items[row].name for row in HISTORY[-10:]]
    assert json.loads(pool) == [catalogue.items[row].name for row in POOL]


# --- the cache --------------------------------------------------------------------------------------------


async def test_a_good_answer_is_given_again_without_a_call(catalogue: Catalogue) -> None:
    async with playing(catalogue, answer("openai", "C", "C", "A")) as (opened, server):
        first = await opened.stage.rerank(ask())
        second = await opened.stage.rerank(ask())
        assert len(server.requests) == 1
    assert (first.cache, second.cache) == ("miss", "hit")
    assert second.order == first.order
    assert second.outcome is first.outcome is Outcome.REPAIRED
    assert (second.duplicated, second.missing, second.shown) == (first.duplicated, first.missing, first.shown)
    assert second.usage == Usage()
    assert second.cost_usd == 0.0
    for result in ("miss", "hit", "stored"):
        assert opened.count("msr_cache_events_total", cache="answers", result=result) == 1


@pytest.mark.usefixtures("clock")
async def test_a_cached_answer_is_there_at_a_deadline_of_zero(catalogue: Catalogue) -> None:
    async with playing(catalogue, answer("openai", *GOOD)) as (opened, server):
        assert (await opened.stage.rerank(ask(deadline=0.0))).outcome is Outcome.FALLBACK_DEADLINE
        await opened.stage.rerank(ask())
        assert (await opened.stage.rerank(ask(deadline=0.0))).outcome is Outcome.OK
        assert len(server.requests) == 1


async def test_refresh_asks_again_and_keeps_the_new_answer(catalogue: Catalogue) -> None:
    async with playing(catalogue, answer("openai", *GOOD), answer("openai", *GOOD[::-1])) as (opened, server):
        await opened.stage.rerank(ask())
        refreshed = await opened.stage.rerank(ask(cache="refresh"))
        again = await opened.stage.rerank(ask())
        assert len(server.requests) == 2
    assert refreshed.cache == "refresh"
    assert again.cache == "hit"
    assert again.order == refreshed.order == (4, 3, 1, 0, 2)


async def test_with_the_cache_off_nothing_is_read_or_kept(catalogue: Catalogue) -> None:
    async with playing(catalogue, answer("openai", *GOOD)) as (opened, server):
        results = [await opened.stage.rerank(ask(cache="off")) for _ in range(2)]
        assert (await opened.stage.rerank(ask())).cache == "miss"
        assert len(server.requests) == 3
    assert [result.cache for result in results] == ["off", "off"]


@pytest.mark.parametrize(
    "bad",
    [
        SCRIPTS["openai"].error(500, "server_error"),
        Reply(SCRIPTS["openai"].stream(b'{"ranking": ["C"', reason=None)),
    ],
    ids=["failed", "truncated"],
)
async def test_a_failed_call_is_not_kept(catalogue: Catalogue, bad: Reply) -> None:
    async with playing(catalogue, bad, answer("openai", *GOOD)) as (opened, _):
        assert not (await opened.stage.rerank(ask())).outcome.good
        second = await opened.stage.rerank(ask())
    assert (second.cache, second.outcome) == ("miss", Outcome.OK)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("bad", [Reply(SCRIPTS["openai"].stream(b"no")), Reply(SCRIPTS["openai"].refusal())])
async def test_an_unusable_answer_is_remembered_for_a_moment(catalogue: Catalogue, bad: Reply) -> None:
    lifetimes = Lifetimes(fresh=60, stale=0, negative=0.4)
    replies = (bad, answer("openai", *GOOD))
    async with playing(catalogue, *replies, lifetimes=lifetimes) as (opened, server):
        first, second = [await opened.stage.rerank(ask()) for _ in range(2)]
        assert len(server.requests) == 1
        await asyncio.sleep(0.5)
        third = await opened.stage.rerank(ask())
    assert (first.cache, first.outcome) == ("miss", Outcome.FALLBACK_ANSWER)
    assert (second.cache, second.outcome) == ("negative", Outcome.FALLBACK_ANSWER)
    assert second.usage == Usage()
    assert (third.cache, third.outcome) == ("miss", Outcome.OK)


@pytest.mark.usefixtures("clock")
async def test_an_answer_cut_off_by_the_token_cap_is_used_and_kept_for_a_moment_alone(
    catalogue: Catalogue,
) -> None:
    lifetimes = Lifetimes(fresh=60, stale=0, negative=0.3)
    steps = SCRIPTS["openai"].stream(b'{"ranking": ["C", "A"')
    cut = [step.replace(b'"stop"', b'"length"') if isinstance(step, bytes) else step for step in steps]
    replies = (Reply(cut), answer("openai", *GOOD))
    async with playing(catalogue, *replies, lifetimes=lifetimes) as (opened, _):
        for cache in ("miss", "hit"):
            first = await opened.stage.rerank(ask())
            assert (first.cache, first.outcome, first.order) == (cache, Outcome.REPAIRED, (2, 0))
        await asyncio.sleep(0.4)
        assert (await opened.stage.rerank(ask())).cache == "miss"


@pytest.mark.usefixtures("clock")
async def test_a_loop_that_is_held_up_over_the_deadline_loses_no_prefix(
    catalogue: Catalogue, clock: MovedClock
) -> None:
    reply = Reply(SCRIPTS["openai"].stream(b'{"ranking": ["C", "A", "B', 30.0, b'"]}'))
    async with playing(catalogue, reply) as (opened, _):
        asyncio.get_running_loop().call_later(0.4, clock.move, 0.2)
        result = await opened.stage.rerank(ask(deadline=0.5))
    assert (result.outcome, result.order) == (Outcome.PARTIAL, (2, 0))
    assert result.estimated
    assert result.usage.input_tokens > 0


@pytest.mark.usefixtures("clock")
async def test_only_steps_that_were_taken_have_a_duration(catalogue: Catalogue) -> None:
    async with playing(catalogue, answer("openai", *GOOD)) as (opened, _):
        assert set((await opened.stage.rerank(ask())).seconds) == {"cache", "prompt", "lvlm"}
        assert set((await opened.stage.rerank(ask())).seconds) == {"cache"}
        nothing = await opened.stage.rerank(ask(deadline=0.0, cache="off"))
        assert set(nothing.seconds) == {"cache"}


DIFFERENT = [
    {"strategy": "s1"},
    {"strategy": "s5"},
    {"history": HISTORY[1:-1]},
    {"pool": POOL[::-1]},
    {"pool": POOL[:-1]},
    {"k": 6},
    {"model": "gpt-4o-mini"},
    {"modality": "title"},
    {"modality": "image"},
    {"image_mode": "strip"},
    {"form": "paper"},
    {"explain": True},
    {"backbone_version": "2"},
]


@pytest.mark.parametrize("change", DIFFERENT, ids="-".join)
async def test_whatever_changes_the_answer_is_another_visit(
    catalogue: Catalogue, change: dict[str, Any]
) -> None:
    async with playing(catalogue, answer("openai", *GOOD)) as (opened, _):
        await opened.stage.rerank(ask())
        assert (await opened.stage.rerank(ask(**change))).cache == "miss"


SAME = [
    {"history": HISTORY[-10:]},
    {"deadline": 5.0},
    {"strategy": "s1", "pool": POOL[::-1], "backbone_version": "2"},
]


@pytest.mark.parametrize("change", SAME, ids="-".join)
async def test_what_the_lvlm_does_not_see_is_the_same_visit(
    catalogue: Catalogue, change: dict[str, Any]
) -> None:
    before = {key: value for key, value in change.items() if key == "strategy"}
    async with playing(catalogue, answer("openai", *GOOD)) as (opened, _):
        first = await opened.stage.rerank(ask(**before))
        second = await opened.stage.rerank(ask(**change))
    assert second.cache == "hit"
    assert second.order == first.order


async def test_a_broken_cache_is_a_miss_and_a_counter(catalogue: Catalogue) -> None:
    async with playing(catalogue, answer("openai", *GOOD), cache=BrokenCache()) as (opened, _):
        result = await opened.stage.rerank(ask())
    assert result.outcome is Outcome.OK
    assert result.cache == "miss"
    assert opened.count("msr_cache_events_total", cache="answers", result="error") == 2


def recaptioned(catalogue: Catalogue) -> Catalogue:
    captions = {row: f"{caption} It is new." for row, caption in catalogue.captions["simulator"].items()}
    return replace(catalogue, captions={"simulator": captions})


def redrawn(catalogue: Catalogue) -> Catalogue:
    """The same files under other digests."""
    return replace(
        catalogue,
        items=tuple(replace(item, image_sha256=item.image and "0" * 64) for item in catalogue.items),
    )


@pytest.mark.parametrize(("strategy", "change"), [("s5", recaptioned), ("s3", redrawn)])
async def test_new_captions_or_pictures_in_a_catalogue_of_the_same_version_are_another_visit(
    catalogue: Catalogue, strategy: str, change: Callable[[Catalogue], Catalogue]
) -> None:
    cache, reply = MemoryCache(10**6), answer("openai", *GOOD)
    found = []
    for shown in (catalogue, change(catalogue), catalogue):
        async with playing(shown, reply, cache=cache, closing_seconds=1) as (opened, _):
            found.append((await opened.stage.rerank(ask(strategy))).cache)
    assert found == ["miss", "miss", "hit"]


@pytest.mark.parametrize("form", ["label", "paper"])
@pytest.mark.parametrize("changed", ["prompt", "montage"])
async def test_another_version_of_the_prompt_or_of_the_montage_is_another_visit(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, changed: str, form: str
) -> None:
    titles = json.dumps({"recommendations": [catalogue.items[row].name for row in POOL]}).encode()
    reply = answer("openai", *GOOD) if form == "label" else Reply(SCRIPTS["openai"].stream(titles))
    async with playing(catalogue, reply) as (opened, _):
        caches = []
        for version in ("1", "1", "2"):
            if changed == "prompt":
                monkeypatch.setattr(prompts, "VERSIONS", {form: version})
            else:
                monkeypatch.setattr(montage, "VERSION", version)
            caches.append((await opened.stage.rerank(ask(form=form))).cache)
    assert caches == ["miss", "hit", "miss"]


def record(*order: int) -> bytes:
    """A whole answer as the cache keeps it."""
    stored = StoredAnswer(Answer(order, 0, 0, 0), Outcome.OK, Shown(), False, "openai", "gpt-4o")
    return json.dumps(asdict(stored)).encode()


async def test_a_whole_record_about_the_pool_is_a_hit(catalogue: Catalogue) -> None:
    async with playing(catalogue, answer("openai", *GOOD), cache=DamagedCache(record(29, 0))) as (opened, _):
        result = await opened.stage.rerank(ask())
    assert (result.cache, result.order) == ("hit", (29, 0))


@pytest.mark.parametrize(
    "junk",
    [b"", b"[]", b"{}", b'{"answer": {"order": [0]}}', b"\xff", record(30), record(-1), record(2, 2)],
)
async def test_a_record_that_is_damaged_or_about_another_pool_is_a_miss(
    catalogue: Catalogue, junk: bytes
) -> None:
    cache = DamagedCache(junk)
    async with playing(catalogue, answer("openai", *GOOD), cache=cache) as (opened, _):
        result = await opened.stage.rerank(ask())
    assert result.outcome is Outcome.OK
    assert opened.count("msr_cache_events_total", cache="answers", result="error") == 1


@pytest.mark.usefixtures("clock")
async def test_a_slow_cache_costs_time_and_never_the_answer(catalogue: Catalogue, clock: MovedClock) -> None:
    cache = SlowCache(10**6)
    good = answer("openai", *GOOD)
    async with playing(catalogue, good, cache=cache, closing_seconds=2) as (opened, _):
        began = clock.now()
        result = await opened.stage.rerank(ask(deadline=2.0))
        assert clock.now() - began < 0.9
        assert result.outcome is Outcome.OK
    assert cache.written == 1  # the stage finishes writing before it closes


class DamagedCache(MemoryCache):
    """Has the same junk under every key."""

    def __init__(self, junk: bytes) -> None:
        super().__init__(10**6)
        self._junk = junk

    async def get(self, key: str) -> bytes | None:
        return self._junk


class SlowCache(MemoryCache):
    """Takes a second to write."""

    written = 0

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        await asyncio.sleep(1.0)
        self.written += 1
