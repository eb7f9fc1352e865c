"""Equal requests are one call, and the call outlives them all: what that promises, and what must not leak."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from controlled_provider import BILLED, ControlledProvider, Step, eventually, fails, ranks, says
from lvlm_parts import MemoryLeases, Opened, open_stage
from moved_clock import MovedClock

from service.catalogue.bundle import Catalogue, open_bundle
from service.lvlm import elsewhere as elsewhere_module
from service.lvlm import montage
from service.lvlm import stage as stage_module
from service.lvlm.allowance import RateLimit
from service.lvlm.answer_cache import Lifetimes
from service.lvlm.contracts import ImageMode
from service.lvlm.flights import Flight, Flights
from service.lvlm.providers.base import FailureKind, Finish, FinishReason, Image, TextDelta, Usage
from service.lvlm.stage import Outcome, StageRequest, StageResult
from service.stores.memory import MemoryCache
from service.strategies import STRATEGIES

pytestmark = pytest.mark.usefixtures("clock")

GOOD = ("C", "A", "B", "D", "E")
GOOD_ROWS = (2, 0, 1, 3, 4)


@pytest.fixture(scope="module")
def catalogue(bundle_folder: Path) -> Catalogue:
    return open_bundle(bundle_folder).catalogue


def ask(strategy: str = "s3", **changes: Any) -> StageRequest:
    """A request that shows titles alone, so that no picture takes its time."""
    request = StageRequest(
        STRATEGIES[strategy],
        history=(20, 21, 22),
        pool=tuple(range(10)),
        k=5,
        provider="fake",
        model="gpt-4o",
        modality="title",
    )
    return replace(request, **changes)


@asynccontextmanager
async def asking(
    catalogue: Catalogue, *scripts: Sequence[Step], **options: Any
) -> AsyncIterator[tuple[Opened, ControlledProvider]]:
    """A stage whose one provider plays these scripts."""
    provider = ControlledProvider(*scripts)
    async with open_stage(catalogue, [provider], **options) as opened:
        yield opened, provider


def flying(opened: Opened) -> int:
    """How many flights there are."""
    return len(opened.stage._flights)


async def landed(opened: Opened) -> None:
    """Wait until the last flight has landed."""
    await eventually(lambda: flying(opened) == 0)


def begin(opened: Opened, request: StageRequest) -> asyncio.Task[StageResult]:
    return asyncio.create_task(opened.stage.rerank(request))


# --- coalescing -------------------------------------------------------------------------------------------


async def test_a_thousand_equal_requests_are_one_call(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        waiting = [begin(opened, ask()) for _ in range(1_000)]
        await provider.called(1)
        await eventually(lambda: flying(opened) == 1)
        gate.set()
        results = await asyncio.gather(*waiting)
        await landed(opened)
        assert len(provider.calls) == 1
    assert {result.order for result in results} == {GOOD_ROWS}
    assert sorted(result.cache for result in results) == ["coalesced"] * 999 + ["miss"]
    assert opened.count("msr_cache_events_total", cache="answers", result="coalesced") == 999


async def test_a_call_is_billed_to_the_request_that_began_it(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        waiting = [begin(opened, ask()) for _ in range(3)]
        await provider.called(1)
        gate.set()
        results = await asyncio.gather(*waiting)
        spent = opened.count("msr_lvlm_cost_usd_total", provider="fake", model="gpt-4o")
    assert [result.usage for result in results].count(Usage()) == 2
    assert sum(result.cost_usd or 0.0 for result in results) == pytest.approx(spent)
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
        waiting = [begin(opened, ask()), begin(opened, ask(**change))]
        await provider.called(2)
        gate.set()
        results = await asyncio.gather(*waiting)
    assert [result.cache for result in results] == ["miss", "miss"]


async def test_equal_requests_after_the_landing_find_the_answer_in_the_cache(catalogue: Catalogue) -> None:
    async with asking(catalogue, ranks(*GOOD)) as (opened, provider):
        await opened.stage.rerank(ask())
        await landed(opened)
        assert (await opened.stage.rerank(ask())).cache == "hit"
        assert len(provider.calls) == 1


async def test_who_comes_while_the_answer_is_written_down_waits_for_nothing(catalogue: Catalogue) -> None:
    cache = GatedCache()
    async with asking(catalogue, ranks(*GOOD), cache=cache) as (opened, provider):
        await opened.stage.rerank(ask())
        assert flying(opened) == 1
        second = await opened.stage.rerank(ask())
        cache.gate.set()
        await landed(opened)
        assert len(provider.calls) == 1
    assert (second.cache, second.order) == ("coalesced", GOOD_ROWS)


async def test_a_failure_lands_at_everybody_who_waits_and_the_next_request_tries_anew(
    catalogue: Catalogue,
) -> None:
    gate = asyncio.Event()
    failing = [gate, *fails(FailureKind.SERVER)]
    async with asking(catalogue, failing, ranks(*GOOD)) as (opened, provider):
        waiting = [begin(opened, ask()) for _ in range(5)]
        await provider.called(1)
        gate.set()
        results = await asyncio.gather(*waiting)
        await landed(opened)
        assert {result.outcome for result in results} == {Outcome.FALLBACK_PROVIDER}
        assert (await opened.stage.rerank(ask())).outcome is Outcome.OK
        assert len(provider.calls) == 2


# --- who leaves and who stays -----------------------------------------------------------------------------


async def test_followers_survive_the_leaders_leaving(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        leader = begin(opened, ask())
        await provider.called(1)
        followers = [begin(opened, ask()) for _ in range(3)]
        await asyncio.sleep(0.01)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        gate.set()
        results = await asyncio.gather(*followers)
        assert len(provider.calls) == 1
    assert [result.order for result in results] == [GOOD_ROWS] * 3


async def test_a_call_that_everybody_left_still_fills_the_cache(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        waiting = [begin(opened, ask()) for _ in range(3)]
        await provider.called(1)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert provider.cancelled == 0
        gate.set()
        await landed(opened)
        assert (await opened.stage.rerank(ask())).cache == "hit"
        assert len(provider.calls) == 1


async def test_a_follower_gets_its_own_deadline_and_not_the_leaders(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        leader = begin(opened, ask(deadline=0.15))
        await provider.called(1)
        follower = begin(opened, ask(deadline=8.0))
        assert (await leader).outcome is Outcome.FALLBACK_DEADLINE
        gate.set()
        assert (await follower).order == GOOD_ROWS
        assert len(provider.calls) == 1


async def test_a_follower_with_little_time_leaves_and_the_leader_stays(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        leader = begin(opened, ask(deadline=8.0))
        await provider.called(1)
        follower = await opened.stage.rerank(ask(deadline=0.1))
        assert (follower.outcome, follower.cache) == (Outcome.FALLBACK_DEADLINE, "coalesced")
        assert follower.usage == Usage()
        gate.set()
        assert (await leader).order == GOOD_ROWS


async def test_a_follower_with_more_time_makes_another_attempt_worth_while(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    failing = [gate, *fails(FailureKind.OVERLOADED, retry_after=0.3)]
    async with asking(catalogue, failing, ranks(*GOOD), attempts=2) as (opened, provider):
        leader = begin(opened, ask(deadline=0.2))
        await provider.called(1)
        follower = begin(opened, ask(deadline=8.0))
        await asyncio.sleep(0.01)
        gate.set()
        assert not (await leader).order
        assert (await follower).order == GOOD_ROWS
        assert len(provider.calls) == 2


async def test_a_follower_keeps_its_time_when_the_calls_own_budget_was_shorter(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)], call_seconds=0.3) as (opened, provider):
        leader = begin(opened, ask(deadline=0.2))
        await provider.called(1)
        follower = begin(opened, ask(deadline=8.0))
        await leader
        await asyncio.sleep(0.3)
        gate.set()
        assert (await follower).order == GOOD_ROWS


# --- deadlines --------------------------------------------------------------------------------------------


async def test_after_a_fallback_at_the_deadline_the_call_goes_on_and_fills_the_cache(
    catalogue: Catalogue,
) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        first = await opened.stage.rerank(ask(deadline=0.15))
        assert (first.outcome, first.order) == (Outcome.FALLBACK_DEADLINE, ())
        gate.set()
        await landed(opened)
        second = await opened.stage.rerank(ask(deadline=0.15))
        assert (second.cache, second.order) == ("hit", GOOD_ROWS)
        assert len(provider.calls) == 1


async def test_after_a_partial_answer_the_whole_one_is_kept(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    script = [TextDelta('{"ranking": ["C", "A", "B'), gate, TextDelta('", "D", "E"]}'), BILLED]
    async with asking(catalogue, [*script, Finish(FinishReason.STOP, "m")]) as (opened, provider):
        first = await opened.stage.rerank(ask(deadline=0.15))
        assert (first.outcome, first.order) == (Outcome.PARTIAL, (2, 0))
        assert first.estimated
        gate.set()
        await landed(opened)
        second = await opened.stage.rerank(ask())
        assert (second.cache, second.outcome, second.order) == ("hit", Outcome.OK, GOOD_ROWS)
        assert len(provider.calls) == 1
        # The request at hand could only guess; the books know by now.
        labels = {"provider": "fake", "model": "gpt-4o", "direction": "input"}
        assert opened.count("msr_lvlm_tokens_total", **labels) == 100
        assert opened.count("msr_lvlm_estimated_tokens_total", **labels) == 0


async def test_a_detached_call_ends_with_its_own_budget(catalogue: Catalogue) -> None:
    async with asking(catalogue, [asyncio.Event()], call_seconds=0.4) as (opened, provider):
        await opened.stage.rerank(ask(deadline=0.1))
        assert flying(opened) == 1
        await landed(opened)
        assert provider.under_way == 0
        assert opened.count("msr_lvlm_inflight") == 0


async def test_no_time_at_all_is_answered_at_once_and_the_next_visit_finds_the_answer(
    catalogue: Catalogue,
) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        async with asyncio.timeout(1):
            first = await opened.stage.rerank(ask(deadline=0.0))
        assert (first.outcome, first.order) == (Outcome.FALLBACK_DEADLINE, ())
        await provider.called(1)
        gate.set()
        await landed(opened)
        second = await opened.stage.rerank(ask(deadline=0.0))
        assert (second.cache, second.order) == ("hit", GOOD_ROWS)
        assert len(provider.calls) == 1


async def test_a_background_call_takes_no_place_that_people_may_need_and_is_made_once(
    catalogue: Catalogue,
) -> None:
    gate = asyncio.Event()
    scripts = [[gate, *ranks(*GOOD)], fails(FailureKind.SERVER), ranks(*GOOD)]
    async with asking(catalogue, *scripts, concurrency=2, attempts=2) as (opened, provider):
        busy = begin(opened, ask(history=(1, 2, 3)))
        await provider.called(1)
        await opened.stage.rerank(ask(deadline=0.0))  # half of the places are taken
        await eventually(lambda: flying(opened) == 1)
        gate.set()
        await busy
        for calls, cache in ((2, "miss"), (3, "miss"), (3, "hit")):
            assert (await opened.stage.rerank(ask(deadline=0.0))).cache == cache
            await landed(opened)
            assert len(provider.calls) == calls


async def test_background_calls_do_not_keep_people_from_their_answers(catalogue: Catalogue) -> None:
    limits = {"fake": RateLimit(requests_per_minute=120)}
    async with asking(catalogue, [0.05, *ranks(*GOOD)], concurrency=4, limits=limits) as (opened, _):
        for row in range(40):
            await opened.stage.rerank(ask(deadline=0.0, history=(row, 30)))
        results = await asyncio.gather(
            *(opened.stage.rerank(ask(deadline=5.0, history=(row, 31))) for row in range(5))
        )
    assert {result.outcome for result in results} == {Outcome.OK}


async def test_an_answer_from_elsewhere_is_found_for_a_moment_and_then_the_first_is_asked_again(
    catalogue: Catalogue,
) -> None:
    lifetimes = Lifetimes(fresh=60, stale=60, negative=0.3)
    first = ControlledProvider(fails(FailureKind.SERVER), ranks(*GOOD[::-1]))
    other = ControlledProvider(ranks(*GOOD), name="other")
    request = ask(alternatives=(("other", "gpt-4o"),))
    async with open_stage(catalogue, [first, other], lifetimes=lifetimes) as opened:
        results = [await opened.stage.rerank(request) for _ in range(3)]
        assert [result.cache for result in results] == ["miss", "hit", "hit"]
        assert {(result.provider, result.order) for result in results} == {("other", GOOD_ROWS)}
        assert (len(first.calls), len(other.calls)) == (1, 1)
        asked = await opened.stage.rerank(replace(request, provider="other", alternatives=()))
        assert asked.cache == "hit"  # its own key has it for good
        await asyncio.sleep(0.4)
        back = await opened.stage.rerank(request)
        assert (back.cache, back.provider, back.order) == ("miss", "fake", GOOD_ROWS[::-1])


async def test_a_bad_refresh_leaves_a_good_answer_where_it_is(catalogue: Catalogue) -> None:
    async with asking(catalogue, ranks(*GOOD), says("Nothing today.")) as (opened, _):
        await opened.stage.rerank(ask())
        refreshed = await opened.stage.rerank(ask(cache="refresh"))
        assert refreshed.outcome is Outcome.FALLBACK_ANSWER
        await landed(opened)
        again = await opened.stage.rerank(ask())
    assert (again.cache, again.outcome, again.order) == ("hit", Outcome.OK, GOOD_ROWS)


async def test_a_slow_cache_leaves_time_for_the_call(catalogue: Catalogue) -> None:
    class Slow(MemoryCache):
        async def get(self, key: str) -> bytes | None:
            await asyncio.sleep(10)
            return None

    async with asking(catalogue, [0.05, *ranks(*GOOD)], cache=Slow(10**6)) as (opened, _):
        result = await opened.stage.rerank(ask(deadline=0.4))
        assert (result.outcome, result.order) == (Outcome.OK, GOOD_ROWS)
        assert opened.count("msr_cache_events_total", cache="answers", result="error") == 1


async def test_pictures_that_nobody_waits_for_are_not_made_while_others_wait(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, clock: MovedClock
) -> None:
    compose = montage.compose

    def slowly(thumbnails: Sequence[Any], mode: ImageMode) -> tuple[Image, ...]:
        clock.move(0.05)
        return compose(thumbnails, mode)

    monkeypatch.setattr(montage, "compose", slowly)
    async with asking(catalogue, ranks(*GOOD), concurrency=100) as (opened, provider):
        hurried = [
            opened.stage.rerank(ask(modality="title+image", deadline=0.1, history=(row, 30)))
            for row in range(40)
        ]
        patient = opened.stage.rerank(ask(modality="title+image", deadline=5.0, history=(40, 30)))
        *_, last = await asyncio.gather(*hurried, patient)
        assert last.outcome is Outcome.OK
        await landed(opened)
        assert len(provider.calls) < 20


async def test_calls_that_nobody_waits_for_are_not_begun_without_end(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_module, "IN_BACKGROUND", 3)
    async with asking(catalogue, [asyncio.Event()]) as (opened, _):
        for row in range(6):
            await opened.stage.rerank(ask(deadline=0.0, history=(row, 30)))
        assert flying(opened) == 3
        waiting = begin(opened, ask(history=(7, 30)))  # somebody who waits is always served
        await eventually(lambda: flying(opened) == 4)
        waiting.cancel()


# --- old, bad and unwanted answers ------------------------------------------------------------------------


async def test_a_stale_answer_is_given_at_once_while_one_call_fetches_a_new_one(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    lifetimes = Lifetimes(fresh=0.2, stale=60, negative=60)
    scripts = [ranks(*GOOD), [gate, *ranks(*GOOD[::-1])]]
    async with asking(catalogue, *scripts, lifetimes=lifetimes) as (opened, provider):
        await opened.stage.rerank(ask())
        await asyncio.sleep(0.25)
        stale = [await opened.stage.rerank(ask()) for _ in range(5)]
        assert {(result.cache, result.order) for result in stale} == {("stale", GOOD_ROWS)}
        assert {result.usage for result in stale} == {Usage()}
        await provider.called(2)
        gate.set()
        await landed(opened)
        fresh = await opened.stage.rerank(ask())
        assert (fresh.cache, fresh.order) == ("hit", GOOD_ROWS[::-1])
        assert len(provider.calls) == 2


async def test_a_stale_answer_survives_a_failed_refresh(catalogue: Catalogue) -> None:
    lifetimes = Lifetimes(fresh=0.1, stale=60, negative=60)
    async with asking(catalogue, ranks(*GOOD), fails(FailureKind.SERVER), lifetimes=lifetimes) as (
        opened,
        provider,
    ):
        await opened.stage.rerank(ask())
        await asyncio.sleep(0.15)
        assert (await opened.stage.rerank(ask())).cache == "stale"
        await provider.called(2)
        await landed(opened)
        again = await opened.stage.rerank(ask())
        assert (again.outcome, again.order) == (Outcome.OK, GOOD_ROWS)
        assert len(provider.calls) == 2  # not at every visit


@pytest.mark.parametrize("bad", [says("Nothing today."), says("", FinishReason.REFUSAL)])
async def test_a_stale_good_answer_is_worth_more_than_a_new_bad_one(
    catalogue: Catalogue, bad: list[Step]
) -> None:
    lifetimes = Lifetimes(fresh=0.1, stale=60, negative=60)
    async with asking(catalogue, ranks(*GOOD), bad, lifetimes=lifetimes) as (opened, provider):
        await opened.stage.rerank(ask())
        await asyncio.sleep(0.15)
        assert (await opened.stage.rerank(ask())).cache == "stale"
        await provider.called(2)
        await landed(opened)
        again = await opened.stage.rerank(ask())
    assert (again.outcome, again.order) == (Outcome.OK, GOOD_ROWS)


async def test_a_stale_answer_is_forgotten_in_the_end(catalogue: Catalogue) -> None:
    lifetimes = Lifetimes(fresh=0.05, stale=0.1, negative=60)
    async with asking(catalogue, ranks(*GOOD), lifetimes=lifetimes) as (opened, _):
        await opened.stage.rerank(ask())
        await asyncio.sleep(0.2)
        assert (await opened.stage.rerank(ask())).cache == "miss"


async def test_equal_requests_share_an_unusable_answer_too(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *says("Nothing today.")]) as (opened, provider):
        waiting = [begin(opened, ask()) for _ in range(4)]
        await provider.called(1)
        gate.set()
        results = await asyncio.gather(*waiting)
        await landed(opened)
        after = await opened.stage.rerank(ask(deadline=0.0))
        assert len(provider.calls) == 1
    assert {result.outcome for result in [*results, after]} == {Outcome.FALLBACK_ANSWER}
    assert after.cache == "negative"


async def test_a_measurement_neither_joins_a_call_nor_is_joined(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        waiting = [begin(opened, ask()), *(begin(opened, ask(cache="off")) for _ in range(2))]
        await provider.called(3)
        waiting.append(begin(opened, ask()))
        gate.set()
        results = await asyncio.gather(*waiting)
        assert len(provider.calls) == 3
    assert [result.cache for result in results] == ["miss", "off", "off", "coalesced"]


async def test_a_measurement_ends_with_its_deadline_and_leaves_nothing_running(catalogue: Catalogue) -> None:
    async with asking(catalogue, [asyncio.Event()]) as (opened, provider):
        result = await opened.stage.rerank(ask(cache="off", deadline=0.15))
        await landed(opened)
        assert provider.under_way == 0
    assert (result.outcome, result.cache) == (Outcome.FALLBACK_DEADLINE, "off")


async def test_refreshes_join_each_other_and_ordinary_requests_join_them(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)]) as (opened, provider):
        waiting = [begin(opened, ask(cache=cache)) for cache in ("refresh", "refresh", "use")]
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
        await opened.stage.rerank(ask())
        await landed(opened)
        refreshing = begin(opened, ask(cache="refresh"))
        await provider.called(2)
        other = await opened.stage.rerank(ask())
        assert (other.cache, other.order) == ("hit", GOOD_ROWS)
        gate.set()
        assert (await refreshing).order == GOOD_ROWS[::-1]


# --- other workers ----------------------------------------------------------------------------------------


async def test_an_answer_that_another_worker_fetches_is_no_bill_of_this_request(catalogue: Catalogue) -> None:
    gate, shared = asyncio.Event(), {"cache": MemoryCache(10**6), "leases": MemoryLeases()}
    request = ask(model="mystery")  # has no price: who makes the call is told so
    async with (
        asking(catalogue, [gate, *ranks(*GOOD)], **shared) as (here, provider),
        asking(catalogue, ranks(*GOOD[::-1]), **shared) as (there, idle),
    ):
        calling = begin(here, request)
        await provider.called(1)
        waiting = begin(there, request)
        await eventually(lambda: flying(there) == 1)
        gate.set()
        made, found = await calling, await waiting
        assert idle.calls == []
    assert made.order == found.order == GOOD_ROWS
    assert (made.cache, made.usage, made.cost_usd, len(made.warnings)) == ("miss", BILLED, None, 1)
    assert (found.cache, found.usage, found.cost_usd, found.warnings) == ("coalesced", Usage(), 0.0, ())


async def test_a_request_that_waits_for_a_worker_that_was_killed_is_answered_by_a_call_of_its_own(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Inherited(MemoryLeases):
        """Every key was taken a moment ago by a worker that is no more."""

        async def take(self, key: str, owner: str, ttl: float) -> bool:
            if key not in self.held:
                await super().take(key, "dead", ttl)
            return await super().take(key, owner, ttl)

    monkeypatch.setattr(elsewhere_module, "LEASE", 0.3)
    async with asking(catalogue, ranks(*GOOD), leases=Inherited()) as (opened, provider):
        early = await opened.stage.rerank(ask(deadline=0.15))
        assert (early.outcome, early.usage, provider.calls) == (Outcome.FALLBACK_DEADLINE, Usage(), [])
        result = await opened.stage.rerank(ask(deadline=5.0))
        assert (result.outcome, result.order) == (Outcome.OK, GOOD_ROWS)
        assert len(provider.calls) == 1


# --- other models -----------------------------------------------------------------------------------------


async def test_an_answer_of_another_model_names_it_in_the_result_in_a_warning_and_in_the_metrics(
    catalogue: Catalogue,
) -> None:
    first = ControlledProvider(fails(FailureKind.SERVER))
    other = ControlledProvider(ranks("C", "ZZ", "A", "B", "D"), name="other")
    async with open_stage(catalogue, [first, other]) as opened:
        result = await opened.stage.rerank(ask(alternatives=(("other", "gpt-4o-mini"),)))
    assert (result.outcome, result.order) == (Outcome.REPAIRED, (2, 0, 1, 3))
    assert (result.provider, result.model) == ("other", "gpt-4o-mini")
    assert result.warnings == ("fake/gpt-4o could not answer: other/gpt-4o-mini did",)
    asked, answered = (
        {"provider": "fake", "model": "gpt-4o"},
        {"provider": "other", "model": "gpt-4o-mini"},
    )
    assert opened.count("msr_lvlm_call_duration_seconds_count", outcome="server", **asked) == 1
    assert opened.count("msr_lvlm_call_duration_seconds_count", outcome="ok", **answered) == 1
    for labels, times in ((asked, 0), (answered, 1)):
        assert opened.count("msr_lvlm_repairs_total", kind="invented", **labels) == times
        assert opened.count("msr_lvlm_tokens_total", direction="input", **labels) == times * 100
    assert 0 < opened.count("msr_lvlm_cost_usd_total", **answered) == result.cost_usd


async def test_when_no_model_answers_nobody_is_said_to_have_answered(catalogue: Catalogue) -> None:
    providers = [ControlledProvider(fails(FailureKind.SERVER), name=name) for name in ("fake", "other")]
    async with open_stage(catalogue, providers) as opened:
        result = await opened.stage.rerank(ask(alternatives=(("other", "gpt-4o-mini"),)))
    assert (result.outcome, result.order, result.warnings) == (Outcome.FALLBACK_PROVIDER, (), ())
    assert [len(provider.calls) for provider in providers] == [1, 1]


# --- shutdown, accidents and leaks ------------------------------------------------------------------------


async def test_a_stop_lets_calls_land_and_their_answers_be_kept(catalogue: Catalogue) -> None:
    cache, gate = MemoryCache(10**6), asyncio.Event()
    async with asking(catalogue, [gate, *ranks(*GOOD)], cache=cache, closing_seconds=5) as (opened, provider):
        await opened.stage.rerank(ask(deadline=0.0))
        await provider.called(1)
        asyncio.get_running_loop().call_later(0.1, gate.set)
    assert provider.cancelled == 0
    async with asking(catalogue, fails(FailureKind.SERVER), cache=cache) as (opened, provider):
        assert (await opened.stage.rerank(ask())).cache == "hit"
        assert provider.calls == []


async def test_a_stop_ends_calls_that_take_too_long_and_answers_who_waits(catalogue: Catalogue) -> None:
    async with asking(catalogue, [asyncio.Event()], closing_seconds=0.1) as (opened, provider):
        waiting = begin(opened, ask())
        await provider.called(1)
    assert provider.under_way == 0
    assert flying(opened) == 0
    assert (await asyncio.wait_for(waiting, 1)).outcome is Outcome.FALLBACK_PROVIDER
    labels = {"provider": "fake", "model": "gpt-4o", "direction": "input"}
    assert opened.count("msr_lvlm_estimated_tokens_total", **labels) > 0  # cancelled, and in the books


async def test_a_fault_of_our_own_inside_a_call_leaves_nobody_hanging(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with asking(catalogue, ranks(*GOOD)) as (opened, _):
        with monkeypatch.context() as broken:
            broken.setattr(stage_module, "read_answer", lambda *_, **__: 1 / 0)
            async with asyncio.timeout(2):
                results = await asyncio.gather(*(opened.stage.rerank(ask()) for _ in range(3)))
        await landed(opened)
        assert {result.outcome for result in results} == {Outcome.FALLBACK_PROVIDER}
        assert "a call broke" in caplog.text
        assert (await opened.stage.rerank(ask())).outcome is Outcome.OK


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_whoever_leaves_at_whatever_moment_no_place_and_no_flight_is_lost(
    catalogue: Catalogue, concurrency: int
) -> None:
    """Requests of every kind are begun and abandoned after a growing number of turns of the event loop."""
    async with asking(catalogue, [0.001, *ranks(*GOOD)], concurrency=concurrency) as (opened, provider):
        for turns in range(40):
            changes = {"cache": ("use", "off", "refresh")[turns % 3], "deadline": (5.0, 0.005)[turns % 2]}
            tasks = [begin(opened, ask(history=(turns, row), **changes)) for row in (30, 31, 31)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await landed(opened)
        assert provider.under_way == 0
        assert opened.count("msr_lvlm_inflight") == 0
        line = opened.gateway._line("fake", "gpt-4o")
        assert line.places.taken == 0
        waiting = [begin(opened, ask(history=(row, 32))) for row in range(concurrency)]
        results = await asyncio.gather(*waiting)
        assert {result.outcome for result in results} == {Outcome.OK}


async def test_a_watcher_sees_every_place_once_and_in_order(catalogue: Catalogue) -> None:
    gates = [asyncio.Event() for _ in range(3)]
    pieces = ['{"ranking": ["C', '", "A", "B', '", "D", "E"]}']
    script: list[Step] = []
    for gate, piece in zip(gates, pieces, strict=True):
        script += [gate, TextDelta(piece)]
    seen: list[tuple[int, ...]] = []
    async with asking(catalogue, [*script, BILLED, Finish(FinishReason.STOP, "m")]) as (opened, _):
        waiting = asyncio.create_task(opened.stage.rerank(ask(), lambda rows: seen.append(tuple(rows))))
        gates[0].set()
        gates[1].set()
        await eventually(lambda: (2, 0) in seen)
        assert not waiting.done()
        gates[2].set()
        await waiting
    assert all(GOOD_ROWS[: len(rows)] == rows for rows in seen)
    assert [len(rows) for rows in seen] == sorted({len(rows) for rows in seen})


async def test_a_watcher_that_breaks_harms_nobody_but_itself(catalogue: Catalogue) -> None:
    gate = asyncio.Event()
    script = [gate, *ranks(*GOOD)]

    def broken(rows: Sequence[int]) -> None:
        raise RuntimeError("no")

    async with asking(catalogue, script) as (opened, provider):
        watched = asyncio.create_task(opened.stage.rerank(ask(), broken))
        await provider.called(1)
        other = begin(opened, ask())
        await asyncio.sleep(0.01)
        gate.set()
        with pytest.raises(RuntimeError, match="no"):
            await watched
        assert (await other).order == GOOD_ROWS


# --- flights by themselves --------------------------------------------------------------------------------


async def test_a_flight_that_lands_twice_keeps_its_first_result() -> None:
    async def fly(flight: Flight[int]) -> None:
        flight.land(1)
        flight.land(2)

    flights: Flights[int] = Flights()
    flight = flights.begin("a", _soon(), float("inf"), fly)
    assert await flight.wait(_soon())
    assert flight.landing.result() == 1


async def test_a_flight_that_never_lands_is_over_for_who_waits(caplog: pytest.LogCaptureFixture) -> None:
    async def fly(flight: Flight[int]) -> None:
        await asyncio.sleep(0)

    flights: Flights[int] = Flights()
    flight = flights.begin("a", _soon(), float("inf"), fly)
    assert await flight.wait(_soon())
    assert flight.landing.cancelled()
    assert flights.join("a", _soon()) is None
    assert len(flights) == 0


async def test_a_flight_without_a_key_cannot_be_joined() -> None:
    gate = asyncio.Event()

    async def fly(flight: Flight[int]) -> None:
        await gate.wait()
        flight.land(1)

    flights: Flights[int] = Flights()
    flights.begin(None, _soon(), float("inf"), fly)
    named = flights.begin("a", _soon(), float("inf"), fly)
    assert flights.join("a", _soon()) is named
    assert len(flights) == 2
    gate.set()
    await flights.close(5)
    assert len(flights) == 0


async def test_waiting_ends_in_time_with_and_without_a_watcher() -> None:
    async def fly(flight: Flight[int]) -> None:
        await asyncio.Event().wait()

    flights: Flights[int] = Flights()
    flight = flights.begin("a", _soon(), float("inf"), fly)
    for watcher in (None, lambda: None):
        for seconds in (0.05, 0.0, -1.0):
            async with asyncio.timeout(2):
                assert not await flight.wait(asyncio.get_running_loop().time() + seconds, watcher)
    assert not flight.progress._watchers
    await flights.close(0)
    assert flight.landing.cancelled()


async def test_joining_makes_a_flight_wait_longer_and_never_shorter() -> None:
    async def fly(flight: Flight[int]) -> None:
        flight.land(1)

    flights: Flights[int] = Flights()
    flight = flights.begin("a", 100.0, float("inf"), fly)
    flights.join("a", 50.0)
    assert flight.progress.until == 100.0
    flights.join("a", 200.0)
    assert flight.progress.until == 200.0
    await flights.close(5)


def _soon() -> float:
    return asyncio.get_running_loop().time() + 5


class GatedCache(MemoryCache):
    """Writes nothing before the gate is open."""

    def __init__(self) -> None:
        super().__init__(10**6)
        self.gate = asyncio.Event()

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        await self.gate.wait()
        await super().set(key, value, ttl)
