"""Alternatives: other models are asked if the first one cannot answer, by the gateway and by the stage."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from controlled_provider import ControlledProvider, fails, ranks, says
from gateway_parts import CALL, MODEL, now, two
from lvlm_parts import open_gateway, open_stage
from stage_parts import GOOD, GOOD_ROWS, ask_titles

from service.catalogue.bundle import Catalogue, open_bundle
from service.lvlm.answer_cache import Lifetimes
from service.lvlm.calls.call_progress import CallProgress
from service.lvlm.contracts import Outcome
from service.lvlm.cost.budgets_and_quotas import RateLimit
from service.lvlm.provider_attempt import Ending
from service.lvlm.providers.base import (
    Alive,
    Call,
    FailureKind,
    TextDelta,
)
from service.stores.base import BURST

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture(scope="module")
def catalogue(bundle_folder: Path) -> Catalogue:
    return open_bundle(bundle_folder).catalogue


async def test_a_model_that_says_nothing_is_given_up_in_time_for_another() -> None:
    first, second = two([asyncio.Event()], says("abc"))
    gateway = open_gateway([first, second])
    completion = await gateway.call("fake", CALL, 0.4, alternatives=[("other", MODEL)])
    assert (completion.ending, completion.responder.provider) == (Ending.FINISHED, "other")


async def test_a_model_that_has_begun_is_not_given_up_for_another() -> None:
    first, second = two([Alive(), 0.3, *says("abc")], says("other"))
    completion = await open_gateway([first, second]).call("fake", CALL, 0.5, alternatives=[("other", MODEL)])
    assert completion.text == "abc"
    assert not second.calls


async def test_the_last_model_may_take_all_the_time_that_is_left() -> None:
    first, second = two(fails(FailureKind.REQUEST), [0.3, *says("abc")])
    completion = await open_gateway([first, second]).call("fake", CALL, 0.4, alternatives=[("other", MODEL)])
    assert completion.text == "abc"


@pytest.mark.parametrize("kind", FailureKind)
async def test_whatever_a_provider_fails_with_the_next_one_is_asked(kind: FailureKind) -> None:
    first, second = two(fails(kind), says("abc"))
    alternatives = [("other", "gpt-4o-mini")]
    completion = await open_gateway([first, second]).call("fake", CALL, 5, alternatives=alternatives)
    assert (completion.ending, completion.text) == (Ending.FINISHED, "abc")
    assert (completion.responder.provider, completion.responder.model) == ("other", "gpt-4o-mini")
    assert [call.model for call in second.calls] == ["gpt-4o-mini"]


async def test_alternatives_are_asked_in_their_order_until_one_answers() -> None:
    asked: list[str] = []

    class Noted(ControlledProvider):
        def stream(self, call: Call) -> Any:
            asked.append(f"{self.name}/{call.model}")
            return super().stream(call)

    providers = [
        Noted(fails(FailureKind.SERVER), name="a"),
        Noted(fails(FailureKind.SERVER), name="b"),
        Noted(fails(FailureKind.SERVER), says("abc"), name="c"),
    ]
    alternatives = [("c", "m1"), ("b", "m2"), ("c", "m3"), ("b", "m4")]
    completion = await open_gateway(providers).call("a", CALL, 5, alternatives=alternatives)
    assert asked == [f"a/{MODEL}", "c/m1", "b/m2", "c/m3"]
    assert (completion.responder.provider, completion.responder.model) == ("c", "m3")


async def test_a_model_with_an_open_breaker_is_passed_over_without_a_call() -> None:
    first, second = two(fails(FailureKind.AUTHENTICATION), says("abc"))
    gateway = open_gateway([first, second])
    for _ in range(3):
        completion = await gateway.call("fake", CALL, 5, alternatives=[("other", MODEL)])
        assert completion.responder.provider == "other"
    assert (len(first.calls), len(second.calls)) == (1, 3)


async def test_a_model_at_its_limit_is_passed_over_if_waiting_would_take_too_long() -> None:
    first, second = two(says("one"), says("two"))
    limits = {"fake": RateLimit(requests_per_minute=60 / BURST)}
    gateway = open_gateway([first, second], limits=limits)
    texts = [(await gateway.call("fake", CALL, 2, alternatives=[("other", MODEL)])).text for _ in range(2)]
    assert texts == ["one", "two"]


async def test_no_alternative_is_asked_after_the_last_one_left() -> None:
    first, second = two([Alive(), 0.1, *fails(FailureKind.SERVER)], says("abc"))
    progress = CallProgress(until=now() + 0.05)
    gateway = open_gateway([first, second])
    completion = await gateway.call("fake", CALL, 5, alternatives=[("other", MODEL)], progress=progress)
    assert completion.ending is Ending.PROVIDER
    assert second.calls == []


async def test_a_deadline_in_the_first_call_leaves_no_time_for_the_next() -> None:
    first, second = two([TextDelta("ab"), asyncio.Event()], says("abc"))
    gateway = open_gateway([first, second])
    completion = await gateway.call("fake", CALL, 0.1, alternatives=[("other", MODEL)])
    assert (completion.ending, completion.text, second.calls) == (Ending.DEADLINE, "ab", [])


async def test_if_all_fail_the_last_failure_is_reported_and_no_text() -> None:
    first, second = two([TextDelta("ab")], [TextDelta("cd"), *fails(FailureKind.CONNECTION)])
    completion = await open_gateway([first, second]).call("fake", CALL, 5, alternatives=[("other", MODEL)])
    assert (completion.ending, completion.failure) == (Ending.PROVIDER, FailureKind.CONNECTION)
    assert completion.text == ""
    assert completion.responder.provider == "other"


async def test_an_answer_of_another_model_is_found_for_a_moment_and_then_the_first_is_asked_again(
    catalogue: Catalogue,
) -> None:
    lifetimes = Lifetimes(fresh=60, stale=60, negative=0.3)
    first = ControlledProvider(fails(FailureKind.SERVER), ranks(*GOOD[::-1]))
    other = ControlledProvider(ranks(*GOOD), name="other")
    request = ask_titles(alternatives=(("other", "gpt-4o"),))
    async with open_stage(catalogue, [first, other], lifetimes=lifetimes) as opened:
        results = [await opened.stage.rerank(request) for _ in range(3)]
        assert [result.cache for result in results] == ["miss", "hit", "hit"]
        assert {(result.answer.responder.reported_as, result.order) for result in results} == {
            ("other", GOOD_ROWS)
        }
        assert (len(first.calls), len(other.calls)) == (1, 1)
        asked = await opened.stage.rerank(replace(request, provider="other", alternatives=()))
        assert asked.cache == "hit"  # its own key has it for good
        await asyncio.sleep(0.4)
        back = await opened.stage.rerank(request)
        assert (back.cache, back.answer.responder.reported_as, back.order) == (
            "miss",
            "fake",
            GOOD_ROWS[::-1],
        )


async def test_an_answer_of_another_model_names_it_in_the_result_in_a_warning_and_in_the_metrics(
    catalogue: Catalogue,
) -> None:
    first = ControlledProvider(fails(FailureKind.SERVER))
    other = ControlledProvider(ranks("C", "ZZ", "A", "B", "D"), name="other")
    async with open_stage(catalogue, [first, other]) as opened:
        result = await opened.stage.rerank(ask_titles(alternatives=(("other", "gpt-4o-mini"),)))
    assert (result.outcome, result.order) == (Outcome.REPAIRED, (2, 0, 1, 3))
    assert (result.answer.responder.reported_as, result.answer.responder.model) == ("other", "gpt-4o-mini")
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
    assert 0 < opened.count("msr_lvlm_cost_usd_total", **answered) == result.bill.cost_usd


async def test_when_no_model_answers_none_is_said_to_have_answered(catalogue: Catalogue) -> None:
    providers = [ControlledProvider(fails(FailureKind.SERVER), name=name) for name in ("fake", "other")]
    async with open_stage(catalogue, providers) as opened:
        result = await opened.stage.rerank(ask_titles(alternatives=(("other", "gpt-4o-mini"),)))
    assert (result.outcome, result.order, result.warnings) == (Outcome.FALLBACK_PROVIDER, (), ())
    assert [len(provider.calls) for provider in providers] == [1, 1]
