"""Stale answers while and after they are renewed, and unusable answers in the cache."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from controlled_provider import Step, eventually, fails, ranks, says
from stage_parts import GOOD, GOOD_ROWS, ask_titles, asking, begin, ended

from service.catalogue.bundle import Catalogue, open_bundle
from service.lvlm.answer_cache import Lifetimes
from service.lvlm.contracts import Outcome
from service.lvlm.providers.base import FailureKind, FinishReason, Usage

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture(scope="module")
def catalogue(bundle_folder: Path) -> Catalogue:
    return open_bundle(bundle_folder).catalogue


async def test_a_bad_refresh_leaves_a_good_answer_where_it_is(catalogue: Catalogue) -> None:
    async with asking(catalogue, ranks(*GOOD), says("Nothing today.")) as (opened, _):
        await opened.stage.rerank(ask_titles())
        refreshed = await opened.stage.rerank(ask_titles(cache="refresh"))
        assert refreshed.outcome is Outcome.FALLBACK_ANSWER
        await ended(opened)
        again = await opened.stage.rerank(ask_titles())
    assert (again.cache, again.outcome, again.order) == ("hit", Outcome.OK, GOOD_ROWS)


async def test_a_stale_answer_is_given_at_once_while_one_call_fetches_a_new_one(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    lifetimes = Lifetimes(fresh=0.2, stale=60, negative=60)
    scripts = [ranks(*GOOD), [gate, *ranks(*GOOD[::-1])]]
    async with asking(catalogue, *scripts, lifetimes=lifetimes) as (opened, provider):
        await opened.stage.rerank(ask_titles())
        await asyncio.sleep(0.25)
        stale = [await opened.stage.rerank(ask_titles()) for _ in range(5)]
        assert {(result.cache, result.order) for result in stale} == {("stale", GOOD_ROWS)}
        assert {result.bill.usage for result in stale} == {Usage()}
        await provider.called(2)
        gate.set()
        await ended(opened)
        fresh = await opened.stage.rerank(ask_titles())
        assert (fresh.cache, fresh.order) == ("hit", GOOD_ROWS[::-1])
        assert len(provider.calls) == 2


async def test_a_stale_answer_survives_a_failed_refresh(catalogue: Catalogue) -> None:
    lifetimes = Lifetimes(fresh=0.1, stale=60, negative=60)
    async with asking(catalogue, ranks(*GOOD), fails(FailureKind.SERVER), lifetimes=lifetimes) as (
        opened,
        provider,
    ):
        await opened.stage.rerank(ask_titles())
        await asyncio.sleep(0.15)
        assert (await opened.stage.rerank(ask_titles())).cache == "stale"
        await provider.called(2)
        await ended(opened)
        again = await opened.stage.rerank(ask_titles())
        assert (again.outcome, again.order) == (Outcome.OK, GOOD_ROWS)
        assert len(provider.calls) == 2  # not at every request


@pytest.mark.parametrize("bad", [says("Nothing today."), says("", FinishReason.REFUSAL)])
async def test_a_stale_good_answer_is_worth_more_than_a_new_bad_one(
    catalogue: Catalogue, bad: list[Step]
) -> None:
    lifetimes = Lifetimes(fresh=0.1, stale=60, negative=60)
    async with asking(catalogue, ranks(*GOOD), bad, lifetimes=lifetimes) as (opened, provider):
        await opened.stage.rerank(ask_titles())
        await asyncio.sleep(0.15)
        assert (await opened.stage.rerank(ask_titles())).cache == "stale"
        await provider.called(2)
        await ended(opened)
        again = await opened.stage.rerank(ask_titles())
    assert (again.outcome, again.order) == (Outcome.OK, GOOD_ROWS)


async def test_a_stale_answer_is_forgotten_in_the_end(catalogue: Catalogue) -> None:
    lifetimes = Lifetimes(fresh=0.05, stale=0.1, negative=60)
    async with asking(catalogue, ranks(*GOOD), lifetimes=lifetimes) as (opened, _):
        await opened.stage.rerank(ask_titles())
        await asyncio.sleep(0.2)
        assert (await opened.stage.rerank(ask_titles())).cache == "miss"


async def test_equal_requests_share_an_unusable_answer_too(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *says("Nothing today.")]) as (opened, provider):
        waiting = [begin(opened, ask_titles()) for _ in range(4)]
        await provider.called(1)
        gate.set()
        results = await asyncio.gather(*waiting)
        await ended(opened)
        after = await opened.stage.rerank(ask_titles(deadline=0.0))
        assert len(provider.calls) == 1
    assert {result.outcome for result in [*results, after]} == {Outcome.FALLBACK_ANSWER}
    assert after.cache == "negative"


async def test_a_measurement_neither_joins_a_call_nor_is_joined(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        waiting = [begin(opened, ask_titles()), *(begin(opened, ask_titles(cache="off")) for _ in range(2))]
        await provider.called(3)
        waiting.append(begin(opened, ask_titles()))
        gate.set()
        results = await asyncio.gather(*waiting)
        assert len(provider.calls) == 3
    assert [result.cache for result in results] == ["miss", "off", "off", "coalesced"]


async def test_a_measurement_ends_with_its_deadline_and_leaves_nothing_running(catalogue: Catalogue) -> None:
    async with asking(catalogue, [asyncio.Event()]) as (opened, provider):
        result = await opened.stage.rerank(ask_titles(cache="off", deadline=0.15))
        await ended(opened)
        assert provider.under_way == 0
    assert (result.outcome, result.cache) == (Outcome.FALLBACK_DEADLINE, "off")


async def test_refreshes_join_each_other_and_ordinary_requests_join_them(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        waiting = [begin(opened, ask_titles(cache=cache)) for cache in ("refresh", "refresh", "use")]
        await eventually(
            lambda: opened.count("msr_cache_events_total", cache="answers", result="coalesced") == 2
        )
        gate.set()
        results = await asyncio.gather(*waiting)
        assert len(provider.calls) == 1
    assert [result.cache for result in results] == ["refresh", "coalesced", "coalesced"]
    assert {result.order for result in results} == {GOOD_ROWS}


async def test_while_a_refresh_is_under_way_others_get_the_good_answer_that_is_there(
    catalogue: Catalogue,
) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, ranks(*GOOD), [gate, *ranks(*GOOD[::-1])]) as (opened, provider):
        await opened.stage.rerank(ask_titles())
        await ended(opened)
        refreshing = begin(opened, ask_titles(cache="refresh"))
        await provider.called(2)
        other = await opened.stage.rerank(ask_titles())
        assert (other.cache, other.order) == ("hit", GOOD_ROWS)
        gate.set()
        assert (await refreshing).order == GOOD_ROWS[::-1]
