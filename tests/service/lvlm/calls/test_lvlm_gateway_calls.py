"""Calls through the gateway: their completions, and providers that are silent."""

from __future__ import annotations

import asyncio

import pytest
from controlled_provider import BILLED, ControlledProvider, Step, says
from gateway_parts import (
    CALL,
    DOLLARS,
    MODEL,
    PROMPT,
    count,
)
from lvlm_parts import open_gateway

from service.lvlm.bill import Bill
from service.lvlm.call_completion import Completion
from service.lvlm.contracts import Responder
from service.lvlm.provider_attempt import Ending
from service.lvlm.providers.base import (
    Alive,
    Call,
    FailureKind,
    FinishReason,
    TextDelta,
)
from service.metrics import Metrics

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


async def test_a_finished_call_says_what_came_and_what_it_took(metrics: Metrics) -> None:
    completion = await open_gateway([ControlledProvider(says("abc"))], metrics).call("fake", CALL, 5)
    assert completion == Completion(
        Ending.FINISHED,
        "abc",
        FinishReason.STOP,
        responder=Responder("fake", MODEL),
        bill=Bill(BILLED, DOLLARS),
    )
    assert count(metrics, "msr_lvlm_cost_usd_total", provider="fake", model=MODEL) == DOLLARS > 0


async def test_a_call_is_cut_at_its_deadline_and_what_came_is_kept(metrics: Metrics) -> None:
    provider = ControlledProvider([TextDelta("ab"), asyncio.Event()])
    completion = await open_gateway([provider], metrics).call("fake", CALL, 0.1)
    assert (completion.ending, completion.text) == (Ending.DEADLINE, "ab")
    assert completion.bill.estimated
    assert provider.under_way == 0


@pytest.mark.parametrize("deadline", [0.0, -1.0])
async def test_without_time_there_is_no_call(deadline: float) -> None:
    provider = ControlledProvider(says("abc"))
    completion = await open_gateway([provider]).call("fake", CALL, deadline)
    assert completion == Completion(Ending.DEADLINE)
    assert provider.calls == []


async def test_a_fault_of_the_adapter_is_a_failure_of_the_call_and_never_an_exception() -> None:
    completion = await open_gateway([ControlledProvider([KeyError("x")])]).call("fake", CALL, 5)
    assert (completion.ending, completion.failure) == (Ending.PROVIDER, FailureKind.SERVER)


async def test_a_stream_that_falls_silent_is_given_up_and_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.lvlm.calls.silence_limit.LONGEST_SILENCE", 0.1)
    provider = ControlledProvider([TextDelta("ab"), asyncio.Event()], says("abc"))
    completion = await open_gateway([provider], attempts=2).call("fake", CALL, 8)
    assert (completion.ending, completion.text) == (Ending.FINISHED, "abc")
    assert len(provider.calls) == 2


async def test_a_slow_stream_that_keeps_talking_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.lvlm.calls.silence_limit.LONGEST_SILENCE", 0.3)
    steps: list[Step] = [step for letter in "abcdef" for step in (0.1, TextDelta(letter))]
    completion = await open_gateway([ControlledProvider([*steps, *says("")])]).call("fake", CALL, 8)
    assert (completion.ending, completion.text) == (Ending.FINISHED, "abcdef")


async def test_a_plain_answer_may_be_silent_until_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.lvlm.calls.silence_limit.LONGEST_SILENCE", 0.05)
    plain = Call(PROMPT, MODEL, 100, stream=False)
    completion = await open_gateway([ControlledProvider([0.2, *says("abc")])]).call("fake", plain, 8)
    assert completion.ending is Ending.FINISHED


async def test_a_model_that_streams_its_thoughts_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.lvlm.calls.silence_limit.LONGEST_SILENCE", 0.1)
    provider = ControlledProvider([Alive(), 0.06, Alive(), 0.06, Alive(), 0.06, *says("abc")])
    completion = await open_gateway([provider]).call("fake", CALL, 5)
    assert completion.text == "abc"
    assert len(provider.calls) == 1
