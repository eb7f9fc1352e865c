"""Singleflight: equal requests share one call, within a process and across workers, which outlives them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from controlled_provider import BILLED, eventually, fails, ranks
from lvlm_parts import MemoryLeases
from stage_parts import GOOD, GOOD_ROWS, ask_titles, asking, begin, calls_of, ended

from service.catalogue.bundle import Catalogue, open_bundle
from service.lvlm.calls import cross_worker_lease
from service.lvlm.calls.singleflight import SharedCall, Singleflight
from service.lvlm.contracts import Outcome
from service.lvlm.providers.base import FailureKind, Usage
from service.stores.memory import MemoryCache

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture(scope="module")
def catalogue(bundle_folder: Path) -> Catalogue:
    return open_bundle(bundle_folder).catalogue


async def test_a_thousand_equal_requests_are_one_call(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        waiting = [begin(opened, ask_titles()) for _ in range(1_000)]
        await provider.called(1)
        await eventually(lambda: calls_of(opened) == 1)
        gate.set()
        results = await asyncio.gather(*waiting)
        await ended(opened)
        assert len(provider.calls) == 1
    assert {result.order for result in results} == {GOOD_ROWS}
    assert sorted(result.cache for result in results) == ["coalesced"] * 999 + ["miss"]
    assert opened.count("msr_cache_events_total", cache="answers", result="coalesced") == 999


async def test_a_call_is_billed_to_the_request_that_began_it(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        waiting = [begin(opened, ask_titles()) for _ in range(3)]
        await provider.called(1)
        gate.set()
        results = await asyncio.gather(*waiting)
        spent = opened.count("msr_lvlm_cost_usd_total", provider="fake", model="gpt-4o")
    assert [result.bill.usage for result in results].count(Usage()) == 2
    assert sum(result.bill.cost_usd or 0.0 for result in results) == pytest.approx(spent)
    assert spent > 0


@pytest.mark.parametrize(
    "change",
    [{"k": 6}, {"history": (20, 21)}, {"model": "gpt-4o-mini"}, {"pool": tuple(range(9))}, {"explain": True}],
    ids="-".join,
)
async def test_requests_that_differ_are_calls_of_their_own(
    catalogue: Catalogue, change: dict[str, Any]
) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        waiting = [begin(opened, ask_titles()), begin(opened, ask_titles(**change))]
        await provider.called(2)
        gate.set()
        results = await asyncio.gather(*waiting)
    assert [result.cache for result in results] == ["miss", "miss"]


async def test_equal_requests_after_the_answer_find_it_in_the_cache(catalogue: Catalogue) -> None:
    async with asking(catalogue, ranks(*GOOD)) as (opened, provider):
        await opened.stage.rerank(ask_titles())
        await ended(opened)
        assert (await opened.stage.rerank(ask_titles())).cache == "hit"
        assert len(provider.calls) == 1


async def test_a_request_that_comes_while_the_answer_is_written_down_waits_for_nothing(
    catalogue: Catalogue,
) -> None:
    cache = GatedCache()
    async with asking(catalogue, ranks(*GOOD), cache=cache) as (opened, provider):
        await opened.stage.rerank(ask_titles())
        assert calls_of(opened) == 1
        second = await opened.stage.rerank(ask_titles())
        cache.gate.set()
        await ended(opened)
        assert len(provider.calls) == 1
    assert (second.cache, second.order) == ("coalesced", GOOD_ROWS)


async def test_a_failure_reaches_all_requests_that_wait_and_the_next_one_tries_anew(
    catalogue: Catalogue,
) -> None:
    gate = asyncio.Event()
    failing = [gate, *fails(FailureKind.SERVER)]
    async with asking(catalogue, failing, ranks(*GOOD)) as (opened, provider):
        waiting = [begin(opened, ask_titles()) for _ in range(5)]
        await provider.called(1)
        gate.set()
        results = await asyncio.gather(*waiting)
        await ended(opened)
        assert {result.outcome for result in results} == {Outcome.FALLBACK_PROVIDER}
        assert (await opened.stage.rerank(ask_titles())).outcome is Outcome.OK
        assert len(provider.calls) == 2


async def test_followers_survive_the_leaders_leaving(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        leader = begin(opened, ask_titles())
        await provider.called(1)
        followers = [begin(opened, ask_titles()) for _ in range(3)]
        await asyncio.sleep(0.01)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        gate.set()
        results = await asyncio.gather(*followers)
        assert len(provider.calls) == 1
    assert [result.order for result in results] == [GOOD_ROWS] * 3


async def test_a_call_that_all_requests_left_still_fills_the_cache(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        waiting = [begin(opened, ask_titles()) for _ in range(3)]
        await provider.called(1)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert provider.cancelled == 0
        gate.set()
        await ended(opened)
        assert (await opened.stage.rerank(ask_titles())).cache == "hit"
        assert len(provider.calls) == 1


async def test_a_follower_gets_its_own_deadline_and_not_the_leaders(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        leader = begin(opened, ask_titles(deadline=0.15))
        await provider.called(1)
        follower = begin(opened, ask_titles(deadline=8.0))
        assert (await leader).outcome is Outcome.FALLBACK_DEADLINE
        gate.set()
        assert (await follower).order == GOOD_ROWS
        assert len(provider.calls) == 1


async def test_a_follower_with_little_time_leaves_and_the_leader_stays(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        leader = begin(opened, ask_titles(deadline=8.0))
        await provider.called(1)
        follower = await opened.stage.rerank(ask_titles(deadline=0.1))
        assert (follower.outcome, follower.cache) == (Outcome.FALLBACK_DEADLINE, "coalesced")
        assert follower.bill.usage == Usage()
        gate.set()
        assert (await leader).order == GOOD_ROWS


async def test_a_follower_with_more_time_makes_another_attempt_worth_while(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    failing = [gate, *fails(FailureKind.OVERLOADED, retry_after=0.3)]
    async with asking(catalogue, failing, ranks(*GOOD), attempts=2) as (opened, provider):
        leader = begin(opened, ask_titles(deadline=0.2))
        await provider.called(1)
        follower = begin(opened, ask_titles(deadline=8.0))
        await asyncio.sleep(0.01)
        gate.set()
        assert not (await leader).order
        assert (await follower).order == GOOD_ROWS
        assert len(provider.calls) == 2


async def test_a_follower_keeps_its_time_when_the_calls_own_budget_was_shorter(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)], call_seconds=0.3) as (opened, provider):
        leader = begin(opened, ask_titles(deadline=0.2))
        await provider.called(1)
        follower = begin(opened, ask_titles(deadline=8.0))
        await leader
        await asyncio.sleep(0.3)
        gate.set()
        assert (await follower).order == GOOD_ROWS


async def test_an_answer_that_another_worker_fetches_is_no_bill_of_this_request(catalogue: Catalogue) -> None:
    gate, shared = asyncio.Event(), {"cache": MemoryCache(10**6), "leases": MemoryLeases()}
    # A model without a price: the request that makes the call gets a warning, the one that joins does not.
    request = ask_titles(model="mystery")
    async with (
        asking(catalogue, [gate, *ranks(*GOOD)], **shared) as (here, provider),
        asking(catalogue, ranks(*GOOD[::-1]), **shared) as (there, idle),
    ):
        calling = begin(here, request)
        await provider.called(1)
        waiting = begin(there, request)
        await eventually(lambda: calls_of(there) == 1)
        gate.set()
        made, found = await calling, await waiting
        assert idle.calls == []
    assert made.order == found.order == GOOD_ROWS
    assert (made.cache, made.bill.usage, made.bill.cost_usd, len(made.warnings)) == ("miss", BILLED, None, 1)
    assert (found.cache, found.bill.usage, found.bill.cost_usd, found.warnings) == (
        "coalesced",
        Usage(),
        0.0,
        (),
    )


async def test_a_request_that_waits_for_a_worker_that_was_killed_is_answered_by_a_call_of_its_own(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Inherited(MemoryLeases):
        """Every key was taken a moment ago by a worker that is no more."""

        async def take(self, key: str, owner: str, ttl: float) -> bool:
            if key not in self.held:
                await super().take(key, "dead", ttl)
            return await super().take(key, owner, ttl)

    monkeypatch.setattr(cross_worker_lease, "LEASE", 0.3)
    async with asking(catalogue, ranks(*GOOD), leases=Inherited()) as (opened, provider):
        early = await opened.stage.rerank(ask_titles(deadline=0.15))
        assert (early.outcome, early.bill.usage, provider.calls) == (Outcome.FALLBACK_DEADLINE, Usage(), [])
        result = await opened.stage.rerank(ask_titles(deadline=5.0))
        assert (result.outcome, result.order) == (Outcome.OK, GOOD_ROWS)
        assert len(provider.calls) == 1


async def test_a_call_that_is_resolved_twice_keeps_its_first_result() -> None:
    async def work(shared: SharedCall[int]) -> None:
        shared.resolve(1)
        shared.resolve(2)

    singleflight: Singleflight[int] = Singleflight()
    shared = singleflight.begin("a", _soon(), float("inf"), work)
    assert await shared.wait(_soon())
    assert shared.result.result() == 1


async def test_a_call_that_is_never_resolved_is_over_for_the_requests_that_wait(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work(shared: SharedCall[int]) -> None:
        await asyncio.sleep(0)

    singleflight: Singleflight[int] = Singleflight()
    shared = singleflight.begin("a", _soon(), float("inf"), work)
    assert await shared.wait(_soon())
    assert shared.result.cancelled()
    assert singleflight.join("a", _soon()) is None
    assert len(singleflight) == 0


async def test_a_call_without_a_key_cannot_be_joined() -> None:
    gate = asyncio.Event()

    async def work(shared: SharedCall[int]) -> None:
        await gate.wait()
        shared.resolve(1)

    singleflight: Singleflight[int] = Singleflight()
    singleflight.begin(None, _soon(), float("inf"), work)
    named = singleflight.begin("a", _soon(), float("inf"), work)
    assert singleflight.join("a", _soon()) is named
    assert len(singleflight) == 2
    gate.set()
    await singleflight.close(5)
    assert len(singleflight) == 0


async def test_waiting_ends_in_time_with_and_without_a_watcher() -> None:
    async def work(shared: SharedCall[int]) -> None:
        await asyncio.Event().wait()

    singleflight: Singleflight[int] = Singleflight()
    shared = singleflight.begin("a", _soon(), float("inf"), work)
    for watcher in (None, lambda: None):
        for seconds in (0.05, 0.0, -1.0):
            async with asyncio.timeout(2):
                assert not await shared.wait(asyncio.get_running_loop().time() + seconds, watcher)
    assert not shared.progress._watchers
    await singleflight.close(0)
    assert shared.result.cancelled()


async def test_joining_makes_a_call_wait_longer_and_never_shorter() -> None:
    async def work(shared: SharedCall[int]) -> None:
        shared.resolve(1)

    singleflight: Singleflight[int] = Singleflight()
    shared = singleflight.begin("a", 100.0, float("inf"), work)
    singleflight.join("a", 50.0)
    assert shared.progress.until == 100.0
    singleflight.join("a", 200.0)
    assert shared.progress.until == 200.0
    await singleflight.close(5)


def _soon() -> float:
    return asyncio.get_running_loop().time() + 5


class GatedCache(MemoryCache):
    """Writes nothing before the gate is open."""

    def __init__(self) -> None:
        super().__init__(10**6)
        self.gate = asyncio.Event()

    async def set(self, key: str, value: bytes, ttl: float, owner: str | None = None) -> None:
        await self.gate.wait()
        await super().set(key, value, ttl, owner)
