"""Retries: which failed attempts are followed by another, and after which pause."""

from __future__ import annotations

import asyncio

import pytest
from controlled_provider import ControlledProvider, fails, says
from gateway_parts import (
    CALL,
    MODEL,
    count,
    failed,
    now,
)
from lvlm_parts import open_gateway

from service.lvlm.calls.call_progress import CallProgress
from service.lvlm.calls.retries import FIRST_PAUSE, LONGEST_PAUSE, Retries
from service.lvlm.provider_attempt import Ending
from service.lvlm.providers.base import (
    FailureKind,
    TextDelta,
)
from service.metrics import Metrics

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


RETRYABLE = [kind for kind in FailureKind if kind.retryable]


FINAL = [kind for kind in FailureKind if not kind.retryable]


@pytest.mark.parametrize("kind", RETRYABLE)
async def test_what_may_pass_is_tried_again(metrics: Metrics, kind: FailureKind) -> None:
    provider = ControlledProvider(fails(kind), says("abc"))
    completion = await open_gateway([provider], metrics, attempts=3).call("fake", CALL, 5)
    assert (completion.ending, completion.text) == (Ending.FINISHED, "abc")
    assert len(provider.calls) == 2
    labels = {"provider": "fake", "model": MODEL}
    assert count(metrics, "msr_lvlm_retries_total", reason=kind.value, **labels) == 1


@pytest.mark.parametrize("kind", FINAL)
async def test_what_will_not_pass_is_not_tried_again(kind: FailureKind) -> None:
    provider = ControlledProvider(fails(kind), says("abc"))
    completion = await open_gateway([provider], attempts=3).call("fake", CALL, 5)
    assert (completion.ending, completion.failure) == (Ending.PROVIDER, kind)
    assert len(provider.calls) == 1


async def test_there_are_no_more_attempts_than_allowed() -> None:
    provider = ControlledProvider(fails(FailureKind.SERVER))
    completion = await open_gateway([provider], attempts=3).call("fake", CALL, 8)
    assert completion.ending is Ending.PROVIDER
    assert len(provider.calls) == 3


async def test_nothing_of_a_failed_attempt_gets_into_the_answer() -> None:
    provider = ControlledProvider([TextDelta("rubbish")], says("abc"))  # ends without a finish
    completion = await open_gateway([provider], attempts=2).call("fake", CALL, 5)
    assert completion.text == "abc"


async def test_a_retry_after_is_kept_to() -> None:
    provider = ControlledProvider(fails(FailureKind.RATE_LIMITED, retry_after=0.4), says("abc"))
    completion = await open_gateway([provider], attempts=2).call("fake", CALL, 8)
    assert completion.ending is Ending.FINISHED
    assert 0.4 <= provider.times[1] - provider.times[0] < 2


@pytest.mark.parametrize("retry_after", [3.0, 86_400.0, float("inf")])
async def test_a_retry_after_beyond_the_deadline_is_not_waited_for(retry_after: float) -> None:
    provider = ControlledProvider(fails(FailureKind.RATE_LIMITED, retry_after), says("abc"))
    began = now()
    completion = await open_gateway([provider], attempts=2).call("fake", CALL, 3)
    assert now() - began < 1
    assert completion.failure is FailureKind.RATE_LIMITED
    assert len(provider.calls) == 1


async def test_no_attempt_begins_after_the_last_one_left() -> None:
    gate = asyncio.Event()
    provider = ControlledProvider([gate, *fails(FailureKind.SERVER)], says("abc"))
    asyncio.get_running_loop().call_later(0.1, gate.set)
    progress = CallProgress(until=now() + 0.05)
    completion = await open_gateway([provider], attempts=3).call("fake", CALL, 8, progress=progress)
    assert completion.ending is Ending.PROVIDER
    assert len(provider.calls) == 1


async def test_an_attempt_under_way_is_not_cut_because_the_last_one_left() -> None:
    provider = ControlledProvider([0.15, *says("abc")])
    progress = CallProgress(until=now() + 0.05)
    completion = await open_gateway([provider]).call("fake", CALL, 8, progress=progress)
    assert completion.ending is Ending.FINISHED


def test_pauses_are_drawn_from_a_bound_that_doubles_up_to_the_longest() -> None:
    retries = Retries(attempts=100)
    for made in (1, 2, 3, 5, 20, 99):
        drawn = [retries.pause(failed(FailureKind.SERVER), made) or 0.0 for _ in range(300)]
        bound = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (made - 1))
        assert 0 <= min(drawn) < bound / 4
        assert bound * 3 / 4 < max(drawn) <= bound


def test_calls_that_failed_together_do_not_come_back_together() -> None:
    retries = Retries(attempts=2)
    asked = [retries.pause(failed(FailureKind.RATE_LIMITED, 1.0), 1) or 0.0 for _ in range(100)]
    assert min(asked) >= 1.0
    assert max(asked) - min(asked) > FIRST_PAUSE / 2
