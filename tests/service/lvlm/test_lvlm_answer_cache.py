"""Answers that are kept for equal requests, and what makes requests equal."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lvlm_parts import SCRIPTS, BrokenCache
from moved_clock import MovedClock
from scripted_server import Reply
from stage_parts import GOOD, HISTORY, POOL, answer, ask, playing

from service.catalogue.bundle import Catalogue, open_bundle
from service.lvlm.answer_cache import Lifetimes
from service.lvlm.contracts import Outcome
from service.lvlm.prompt import history_picture, prompts
from service.lvlm.providers.base import Usage
from service.stores.memory import MemoryCache


@pytest.fixture(scope="module")
def catalogue(bundle_folder: Path) -> Catalogue:
    return open_bundle(bundle_folder).catalogue


async def test_a_good_answer_is_given_again_without_a_call(catalogue: Catalogue) -> None:
    async with playing(catalogue, answer("openai", "C", "C", "A")) as (opened, server):
        first = await opened.stage.rerank(ask())
        second = await opened.stage.rerank(ask())
        assert len(server.requests) == 1
    assert (first.cache, second.cache) == ("miss", "hit")
    assert second.order == first.order
    assert second.outcome is first.outcome is Outcome.REPAIRED
    assert (second.answer.parsed.duplicated, second.answer.parsed.missing, second.shown) == (
        first.answer.parsed.duplicated,
        first.answer.parsed.missing,
        first.shown,
    )
    assert second.bill.usage == Usage()
    assert second.bill.cost_usd == 0.0
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
    assert second.bill.usage == Usage()
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
    assert result.bill.estimated
    assert result.bill.usage.input_tokens > 0


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
async def test_whatever_changes_the_answer_has_another_key(
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
async def test_what_the_lvlm_does_not_see_leaves_the_key_the_same(
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
async def test_new_captions_or_pictures_in_a_catalogue_of_the_same_version_have_another_key(
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
async def test_another_version_of_the_prompt_or_of_the_montage_has_another_key(
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
                monkeypatch.setattr(history_picture, "VERSION", version)
            caches.append((await opened.stage.rerank(ask(form=form))).cache)
    assert caches == ["miss", "hit", "miss"]


LAYOUT: dict[str, Any] = {
    "answer": {
        "order": [],
        "invented": 0,
        "duplicated": 0,
        "missing": 0,
        "explanation": None,
        "form": False,
    },
    "outcome": "ok",
    "shown": {"titles": 10, "images": 8, "captions": 0, "without_image": 2},
    "simulated": False,
    "provider": "openai",
    "model": "gpt-4o",
    "blind": False,
    "at": 1e12,
    "owner": None,
}
"""What a cached answer looks like in a store that workers of several versions share."""


def record(*order: int) -> bytes:
    """A whole answer as the cache keeps it."""
    return json.dumps(LAYOUT | {"answer": LAYOUT["answer"] | {"order": order}}).encode()


async def test_a_whole_record_about_the_pool_is_a_hit(catalogue: Catalogue) -> None:
    async with playing(catalogue, answer("openai", *GOOD), cache=DamagedCache(record(29, 0))) as (opened, _):
        result = await opened.stage.rerank(ask())
    assert (result.cache, result.order) == ("hit", (29, 0))


async def test_an_answer_is_written_as_workers_of_other_versions_read_it(catalogue: Catalogue) -> None:
    cache = KeptCache(10**6)
    async with playing(catalogue, answer("openai", *GOOD), cache=cache, closing_seconds=1) as (opened, _):
        result = await opened.stage.rerank(ask())
    (written,) = (json.loads(value) for value in cache.written)
    assert written.pop("at") == pytest.approx(time.time(), abs=600)
    wanted = LAYOUT | {"answer": LAYOUT["answer"] | {"order": list(result.order)}}
    assert list(written) == [name for name in wanted if name != "at"]
    assert written == {name: value for name, value in wanted.items() if name != "at"}


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


class KeptCache(MemoryCache):
    """Keeps what was written for the test to see."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.written: list[bytes] = []

    async def set(self, key: str, value: bytes, ttl: float, owner: str | None = None) -> None:
        self.written.append(value)
        await super().set(key, value, ttl, owner)


class SlowCache(MemoryCache):
    """Takes a second to write."""

    written = 0

    async def set(self, key: str, value: bytes, ttl: float, owner: str | None = None) -> None:
        await asyncio.sleep(1.0)
        self.written += 1
