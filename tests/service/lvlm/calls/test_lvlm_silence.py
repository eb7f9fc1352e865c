"""The silence limit: how long an attempt may bring no event, or only keep-alive comments."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from controlled_provider import ControlledProvider, Step, says
from lvlm_parts import open_gateway
from moved_clock import MovedClock

from service.lvlm.call_completion import Completion
from service.lvlm.calls.silence_limit import LONGEST_SILENCE, LONGEST_WITHOUT_PROGRESS
from service.lvlm.provider_attempt import Ending
from service.lvlm.providers.base import Alive, Call, FailureKind, Prompt, Source, Text, TextDelta

CALL = Call(Prompt("Rank.", (Text("data"),), None, "v"), "gpt-4o", 200)


async def played(*script: Step, deadline: float = 1_000.0) -> Completion:
    gateway = open_gateway([ControlledProvider(script)])
    completion = await gateway.call("fake", CALL, deadline)
    await gateway.close()
    return completion


def again(*script: Step, times: int) -> Sequence[Step]:
    return list(script) * times


async def test_an_attempt_that_falls_silent_is_given_up(clock: MovedClock) -> None:
    began = clock.now()
    completion = await played(TextDelta("a"), 500.0)
    assert completion.failure is FailureKind.SILENT
    assert 0.9 * LONGEST_SILENCE <= clock.now() - began <= LONGEST_SILENCE


@pytest.mark.parametrize("sign", [TextDelta("a"), Alive(thinking=True)], ids=["text", "thoughts"])
async def test_progress_keeps_an_attempt_for_as_long_as_it_goes_on(clock: MovedClock, sign: Step) -> None:
    completion = await played(*again(20.0, sign, times=20), *says("end"))
    assert completion.ending is Ending.FINISHED


async def test_signs_of_life_alone_keep_an_attempt_for_two_minutes(clock: MovedClock) -> None:
    began = clock.now()
    completion = await played(*again(20.0, Alive(), times=50), *says("end"))
    assert completion.failure is FailureKind.SILENT
    assert LONGEST_WITHOUT_PROGRESS - LONGEST_SILENCE <= clock.now() - began <= LONGEST_WITHOUT_PROGRESS


async def test_signs_of_life_between_words_do_no_harm(clock: MovedClock) -> None:
    completion = await played(
        *again(25.0, Alive(), 25.0, Alive(), 25.0, TextDelta("a"), times=10), *says("end")
    )
    assert completion.ending is Ending.FINISHED


async def test_a_head_without_a_word_is_silence(clock: MovedClock) -> None:
    began = clock.now()
    completion = await played(Source("m"), 500.0)
    assert completion.failure is FailureKind.SILENT
    assert clock.now() - began <= LONGEST_SILENCE


async def test_the_deadline_cuts_whatever_goes_on(clock: MovedClock) -> None:
    began = clock.now()
    completion = await played(*again(1.0, TextDelta("a"), times=100), deadline=10.5)
    assert completion.ending is Ending.DEADLINE
    assert clock.now() - began == pytest.approx(10.5, abs=0.01)
    assert completion.text == "a" * 10
