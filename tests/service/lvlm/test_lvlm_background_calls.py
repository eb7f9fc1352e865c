"""Calls that go on after their requests, for the cache: what they may take, and when they end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from controlled_provider import BILLED, eventually, fails, ranks
from moved_clock import MovedClock
from stage_parts import GOOD, GOOD_ROWS, ask_titles, asking, begin, calls_of, ended

from service.catalogue.bundle import Catalogue, open_bundle
from service.lvlm import stage as stage_module
from service.lvlm.contracts import ImageMode, Outcome
from service.lvlm.cost.budgets_and_quotas import RateLimit
from service.lvlm.prompt import history_picture
from service.lvlm.providers.base import FailureKind, Finish, FinishReason, Image, TextDelta
from service.stores.memory import MemoryCache

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture(scope="module")
def catalogue(bundle_folder: Path) -> Catalogue:
    return open_bundle(bundle_folder).catalogue


async def test_after_a_fallback_at_the_deadline_the_call_goes_on_and_fills_the_cache(
    catalogue: Catalogue,
) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        first = await opened.stage.rerank(ask_titles(deadline=0.15))
        assert (first.outcome, first.order) == (Outcome.FALLBACK_DEADLINE, ())
        gate.set()
        await ended(opened)
        second = await opened.stage.rerank(ask_titles(deadline=0.15))
        assert (second.cache, second.order) == ("hit", GOOD_ROWS)
        assert len(provider.calls) == 1


async def test_after_a_partial_answer_the_whole_one_is_kept(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    script = [TextDelta('{"ranking": ["C", "A", "B'), gate, TextDelta('", "D", "E"]}'), BILLED]
    async with asking(catalogue, [*script, Finish(FinishReason.STOP, "m")]) as (opened, provider):
        first = await opened.stage.rerank(ask_titles(deadline=0.15))
        assert (first.outcome, first.order) == (Outcome.PARTIAL, (2, 0))
        assert first.bill.estimated
        gate.set()
        await ended(opened)
        second = await opened.stage.rerank(ask_titles())
        assert (second.cache, second.outcome, second.order) == ("hit", Outcome.OK, GOOD_ROWS)
        assert len(provider.calls) == 1
        # The request's answer had an estimated bill; the ledger has the reported one by now.
        labels = {"provider": "fake", "model": "gpt-4o", "direction": "input"}
        assert opened.count("msr_lvlm_tokens_total", **labels) == 100
        assert opened.count("msr_lvlm_estimated_tokens_total", **labels) == 0


async def test_a_detached_call_ends_with_its_own_budget(catalogue: Catalogue) -> None:
    async with asking(catalogue, [asyncio.Event()], call_seconds=0.4) as (opened, provider):
        await opened.stage.rerank(ask_titles(deadline=0.1))
        assert calls_of(opened) == 1
        await ended(opened)
        assert provider.under_way == 0
        assert opened.count("msr_lvlm_inflight") == 0


async def test_a_deadline_of_zero_is_answered_at_once_and_the_next_request_finds_the_answer(
    catalogue: Catalogue,
) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        async with asyncio.timeout(1):
            first = await opened.stage.rerank(ask_titles(deadline=0.0))
        assert (first.outcome, first.order) == (Outcome.FALLBACK_DEADLINE, ())
        await provider.called(1)
        gate.set()
        await ended(opened)
        second = await opened.stage.rerank(ask_titles(deadline=0.0))
        assert (second.cache, second.order) == ("hit", GOOD_ROWS)
        assert len(provider.calls) == 1


async def test_a_background_call_takes_no_permit_that_requests_may_need_and_is_made_once(
    catalogue: Catalogue,
) -> None:
    gate = asyncio.Event()
    scripts = [[gate, *ranks(*GOOD)], fails(FailureKind.SERVER), ranks(*GOOD)]
    async with asking(catalogue, *scripts, concurrency=2, attempts=2) as (opened, provider):
        busy = begin(opened, ask_titles(history=(1, 2, 3)))
        await provider.called(1)
        await opened.stage.rerank(ask_titles(deadline=0.0))  # half of the permits are taken
        await eventually(lambda: calls_of(opened) == 1)
        gate.set()
        await busy
        for calls, cache in ((2, "miss"), (3, "miss"), (3, "hit")):
            assert (await opened.stage.rerank(ask_titles(deadline=0.0))).cache == cache
            await ended(opened)
            assert len(provider.calls) == calls


async def test_background_calls_do_not_keep_requests_from_their_answers(catalogue: Catalogue) -> None:
    limits = {"fake": RateLimit(requests_per_minute=120)}
    async with asking(catalogue, [0.05, *ranks(*GOOD)], concurrency=4, limits=limits) as (opened, _):
        for row in range(40):
            await opened.stage.rerank(ask_titles(deadline=0.0, history=(row, 30)))
        results = await asyncio.gather(
            *(opened.stage.rerank(ask_titles(deadline=5.0, history=(row, 31))) for row in range(5))
        )
    assert {result.outcome for result in results} == {Outcome.OK}


async def test_a_slow_cache_leaves_time_for_the_call(catalogue: Catalogue) -> None:
    class Slow(MemoryCache):
        async def get(self, key: str) -> bytes | None:
            await asyncio.sleep(10)
            return None

    async with asking(catalogue, [0.05, *ranks(*GOOD)], cache=Slow(10**6)) as (opened, _):
        result = await opened.stage.rerank(ask_titles(deadline=0.4))
        assert (result.outcome, result.order) == (Outcome.OK, GOOD_ROWS)
        assert opened.count("msr_cache_events_total", cache="answers", result="error") == 1


async def test_pictures_that_no_request_waits_for_are_not_made_while_others_wait(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, clock: MovedClock
) -> None:
    compose = history_picture.compose

    def slowly(thumbnails: Sequence[Any], mode: ImageMode) -> tuple[Image, ...]:
        clock.move(0.05)
        return compose(thumbnails, mode)

    monkeypatch.setattr(history_picture, "compose", slowly)
    async with asking(catalogue, ranks(*GOOD), concurrency=100) as (opened, provider):
        hurried = [
            opened.stage.rerank(ask_titles(modality="title+image", deadline=0.1, history=(row, 30)))
            for row in range(40)
        ]
        patient = opened.stage.rerank(ask_titles(modality="title+image", deadline=5.0, history=(40, 30)))
        *_, last = await asyncio.gather(*hurried, patient)
        assert last.outcome is Outcome.OK
        await ended(opened)
        assert len(provider.calls) < 20


async def test_calls_that_no_request_waits_for_are_not_begun_without_end(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_module, "MAX_BACKGROUND", 3)
    async with asking(catalogue, [asyncio.Event()]) as (opened, _):
        for row in range(6):
            await opened.stage.rerank(ask_titles(deadline=0.0, history=(row, 30)))
        assert calls_of(opened) == 3
        waiting = begin(opened, ask_titles(history=(7, 30)))  # a request that waits is always served
        await eventually(lambda: calls_of(opened) == 4)
        waiting.cancel()
