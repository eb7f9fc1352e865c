"""A model that keeps failing is not called for a while."""

from __future__ import annotations

import asyncio

import pytest
from controlled_provider import ControlledProvider, fails, says
from gateway_parts import (
    CALL,
    MODEL,
    PROMPT,
    RetriesWithoutPause,
    count,
    failed,
    finished,
)
from lvlm_parts import open_gateway
from moved_clock import MovedClock

from service.lvlm.calls.circuit_breaker import FIRST_OPEN, LONGEST_OPEN, MIN_ATTEMPTS, WINDOW, CircuitBreaker
from service.lvlm.calls.gateway import Gateway
from service.lvlm.provider_attempt import Attempt, Ending
from service.lvlm.providers.base import (
    Call,
    FailureKind,
    Usage,
)
from service.metrics import Metrics

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


async def fail_until_open(gateway: Gateway, provider: ControlledProvider) -> None:
    """Let a provider fail as often as it takes."""
    while not gateway.state(provider.name, MODEL).breaker.open:
        assert len(provider.calls) < 3 * MIN_ATTEMPTS
        await gateway.call(provider.name, CALL, 5)


async def test_a_provider_that_keeps_failing_is_left_alone(metrics: Metrics) -> None:
    provider = ControlledProvider(fails(FailureKind.SERVER))
    gateway = open_gateway([provider], metrics)
    await fail_until_open(gateway, provider)
    made = len(provider.calls)
    completion = await gateway.call("fake", CALL, 5)
    assert made == MIN_ATTEMPTS
    assert len(provider.calls) == made
    assert (completion.ending, completion.bill.usage, completion.bill.estimated) == (
        Ending.PROVIDER,
        Usage(),
        False,
    )
    assert count(metrics, "msr_lvlm_breaker_open", provider="fake", model=MODEL) == 1


async def test_another_model_of_the_provider_is_still_asked() -> None:
    provider = ControlledProvider(*[fails(FailureKind.SERVER)] * MIN_ATTEMPTS, says("abc"))
    gateway = open_gateway([provider])
    await fail_until_open(gateway, provider)
    other = Call(PROMPT, "gpt-4o-mini", 100)
    assert (await gateway.call("fake", other, 5)).ending is Ending.FINISHED


async def test_after_a_rest_one_probe_decides_and_its_success_lets_all_through(
    metrics: Metrics, clock: MovedClock
) -> None:
    gate = asyncio.Event()
    provider = ControlledProvider(
        *[fails(FailureKind.SERVER)] * MIN_ATTEMPTS, [gate, *says("abc")], says("abc")
    )
    gateway = open_gateway([provider], metrics)
    await fail_until_open(gateway, provider)
    clock.move(FIRST_OPEN)
    waiting = [asyncio.create_task(gateway.call("fake", CALL, 5)) for _ in range(5)]
    await provider.called(MIN_ATTEMPTS + 1)
    refused = await asyncio.gather(*waiting[1:])
    assert {completion.ending for completion in refused} == {Ending.PROVIDER}
    assert len(provider.calls) == MIN_ATTEMPTS + 1
    gate.set()
    assert (await waiting[0]).ending is Ending.FINISHED
    after = await asyncio.gather(*(gateway.call("fake", CALL, 5) for _ in range(5)))
    assert {completion.ending for completion in after} == {Ending.FINISHED}
    assert count(metrics, "msr_lvlm_breaker_open", provider="fake", model=MODEL) == 0


async def test_a_probe_that_fails_doubles_the_rest(clock: MovedClock) -> None:
    provider = ControlledProvider(fails(FailureKind.SERVER))
    gateway = open_gateway([provider])
    await fail_until_open(gateway, provider)
    clock.move(FIRST_OPEN)
    await gateway.call("fake", CALL, 5)
    assert len(provider.calls) == MIN_ATTEMPTS + 1
    clock.move(FIRST_OPEN)
    await gateway.call("fake", CALL, 5)
    assert len(provider.calls) == MIN_ATTEMPTS + 1
    clock.move(FIRST_OPEN)
    await gateway.call("fake", CALL, 5)
    assert len(provider.calls) == MIN_ATTEMPTS + 2


async def test_a_probe_that_is_cancelled_makes_room_for_another(clock: MovedClock) -> None:
    provider = ControlledProvider(*[fails(FailureKind.SERVER)] * MIN_ATTEMPTS, [asyncio.Event()], says("abc"))
    gateway = open_gateway([provider])
    await fail_until_open(gateway, provider)
    clock.move(FIRST_OPEN)
    probe = asyncio.create_task(gateway.call("fake", CALL, 5))
    await provider.called(MIN_ATTEMPTS + 1)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    assert (await gateway.call("fake", CALL, 5)).ending is Ending.FINISHED


@pytest.mark.parametrize("ended", ["failed", "cancelled"])
def test_an_attempt_from_before_it_opened_is_not_taken_for_the_probe(clock: MovedClock, ended: str) -> None:
    breaker, straggler = CircuitBreaker(), Attempt("fake", CALL)
    clock.move(0.1)
    for _ in range(MIN_ATTEMPTS):
        breaker.record(failed(FailureKind.SERVER))
    clock.move(FIRST_OPEN)
    assert breaker.admit()
    probe = Attempt("fake", CALL)
    if ended == "failed":
        straggler.fail(FailureKind.SERVER)
    breaker.record(straggler)
    assert not breaker.admit(), "one attempt at a time"
    breaker.record(probe)  # cancelled: says nothing, and another may be made at once
    assert breaker.admit()


def test_a_success_from_before_it_opened_closes_it(clock: MovedClock) -> None:
    breaker, straggler = CircuitBreaker(), finished()
    for _ in range(MIN_ATTEMPTS):
        breaker.record(failed(FailureKind.SERVER))
    clock.move(FIRST_OPEN)
    assert breaker.admit()
    breaker.record(straggler)
    assert breaker.admit()
    assert breaker.admit()


def broken(retry_after: float | None = None) -> CircuitBreaker:
    """A breaker that has just opened."""
    breaker = CircuitBreaker()
    for _ in range(MIN_ATTEMPTS):
        breaker.record(failed(FailureKind.OVERLOADED, retry_after))
    assert breaker.open
    return breaker


def test_however_many_probes_fail_a_rest_is_never_longer_than_the_longest(clock: MovedClock) -> None:
    breaker = broken()
    for _ in range(10):
        clock.move(LONGEST_OPEN)
        assert breaker.admit()
        breaker.record(failed(FailureKind.OVERLOADED))
    clock.move(LONGEST_OPEN - 1)
    assert not breaker.admit()


@pytest.mark.parametrize(
    ("retry_after", "rest"), [(20.0, 20.0), (86_400.0, LONGEST_OPEN), (float("inf"), LONGEST_OPEN)]
)
def test_a_provider_that_says_when_to_come_back_is_left_alone_until_then_but_no_longer_than_the_longest(
    clock: MovedClock, retry_after: float, rest: float
) -> None:
    breaker = broken(retry_after)
    clock.move(rest - 1)
    assert not breaker.admit()
    clock.move(1)
    assert breaker.admit()


def test_failures_of_long_ago_do_not_count(clock: MovedClock) -> None:
    breaker = CircuitBreaker()
    for _ in range(MIN_ATTEMPTS - 1):
        breaker.record(failed(FailureKind.SERVER))
    clock.move(WINDOW)
    for _ in range(MIN_ATTEMPTS - 1):
        breaker.record(failed(FailureKind.SERVER))
        assert not breaker.open
    breaker.record(failed(FailureKind.SERVER))
    assert breaker.open


def test_successes_of_long_ago_do_not_count(clock: MovedClock) -> None:
    breaker = CircuitBreaker()
    for _ in range(2 * MIN_ATTEMPTS):
        breaker.record(finished())
    clock.move(WINDOW)
    for _ in range(MIN_ATTEMPTS):
        assert not breaker.open
        breaker.record(failed(FailureKind.SERVER))
    assert breaker.open


async def test_an_account_that_is_refused_is_left_alone_at_once() -> None:
    provider = ControlledProvider(fails(FailureKind.AUTHENTICATION))
    gateway = open_gateway([provider])
    for _ in range(3):
        assert (await gateway.call("fake", CALL, 5)).ending is Ending.PROVIDER
    assert len(provider.calls) == 1


@pytest.mark.parametrize("kind", [FailureKind.REQUEST, FailureKind.RATE_LIMITED])
async def test_a_callers_mistake_or_haste_is_no_fault_of_the_provider(kind: FailureKind) -> None:
    provider = ControlledProvider(fails(kind))
    gateway = open_gateway([provider])
    for _ in range(3 * MIN_ATTEMPTS):
        await gateway.call("fake", CALL, 5)
    assert len(provider.calls) == 3 * MIN_ATTEMPTS


async def test_a_provider_that_fails_now_and_then_is_not_left_alone() -> None:
    provider = ControlledProvider(*[fails(FailureKind.SERVER), says("a"), says("b")] * 2 * MIN_ATTEMPTS)
    gateway = open_gateway([provider])
    for _ in range(6 * MIN_ATTEMPTS):
        await gateway.call("fake", CALL, 5)
    assert len(provider.calls) == 6 * MIN_ATTEMPTS


async def test_cancelled_calls_are_no_failure_of_the_provider() -> None:
    provider = ControlledProvider([asyncio.Event()])
    gateway = open_gateway([provider], concurrency=3 * MIN_ATTEMPTS)
    leaving = [asyncio.create_task(gateway.call("fake", CALL, 5)) for _ in range(2 * MIN_ATTEMPTS)]
    await provider.called(2 * MIN_ATTEMPTS)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    await asyncio.gather(*(gateway.call("fake", CALL, 0.05) for _ in range(MIN_ATTEMPTS)))
    assert not gateway.state("fake", MODEL).breaker.open


async def test_a_provider_that_swallows_calls_without_a_word_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.lvlm.calls.circuit_breaker.UNANSWERED", 0.1)
    provider = ControlledProvider([asyncio.Event()])
    gateway = open_gateway([provider], concurrency=MIN_ATTEMPTS)
    await asyncio.gather(*(gateway.call("fake", CALL, 0.15) for _ in range(MIN_ATTEMPTS)))
    assert gateway.state("fake", MODEL).breaker.open


async def test_a_retry_stops_when_the_breaker_opens_meanwhile() -> None:
    provider = ControlledProvider(fails(FailureKind.SERVER))
    gateway = open_gateway([provider], attempts=100)
    gateway._retries = RetriesWithoutPause(100)
    completion = await gateway.call("fake", CALL, 60)
    assert completion.ending is Ending.PROVIDER
    assert len(provider.calls) == MIN_ATTEMPTS
