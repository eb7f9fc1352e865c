"""Between wanting an answer and having it: trying again, leaving alone, taking turns, paying, the books."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from controlled_provider import BILLED, ControlledProvider, Step, eventually, fails, says
from lvlm_parts import open_gateway
from moved_clock import MovedClock

from service.lvlm.accounts import Ledger
from service.lvlm.allowance import CAUTION, Budget, Quota, RateLimit, Reservation
from service.lvlm.attempt import Attempt, Ending
from service.lvlm.bill import Bill
from service.lvlm.breaker import FIRST_OPEN, LONGEST_OPEN, MIN_ATTEMPTS, WINDOW, CircuitBreaker
from service.lvlm.completion import Completion
from service.lvlm.contracts import Responder
from service.lvlm.gateway import Gateway
from service.lvlm.places import DECREASE, ConcurrencyLimit
from service.lvlm.pricing import Prices
from service.lvlm.progress import CallProgress
from service.lvlm.providers.base import (
    Alive,
    Call,
    FailureKind,
    Finish,
    FinishReason,
    Prompt,
    ProviderError,
    Text,
    TextDelta,
    Usage,
)
from service.lvlm.retries import FIRST_PAUSE, LONGEST_PAUSE, Retries
from service.metrics import Metrics
from service.stores.base import BURST, Flow, Meters, StoreError, Sum
from service.stores.memory import MemoryMeters

pytestmark = pytest.mark.usefixtures("clock")

MODEL = "gpt-4o"
PROMPT = Prompt("Rank.", (Text("data " * 80),), None, "1", answer_tokens=20)
CALL = Call(PROMPT, MODEL, max_output_tokens=100)
RETRYABLE = [kind for kind in FailureKind if kind.retryable]
FINAL = [kind for kind in FailureKind if not kind.retryable]
DOLLARS = Prices.read().cost(MODEL, BILLED) or 0.0


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def count(metrics: Metrics, name: str, **labels: str) -> float:
    """The value of a sample; 0 before its first event."""
    return metrics.registry.get_sample_value(name, labels) or 0.0


def now() -> float:
    return asyncio.get_running_loop().time()


def failed(kind: FailureKind, retry_after: float | None = None) -> Attempt:
    attempt = Attempt("fake", CALL)
    attempt.fail(kind, retry_after)
    return attempt


def finished() -> Attempt:
    attempt = Attempt("fake", CALL)
    attempt.take(Finish(FinishReason.STOP, "m"))
    attempt.end()
    return attempt


# --- one attempt ------------------------------------------------------------------------------------------


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
    monkeypatch.setattr("service.lvlm.silence.LONGEST_SILENCE", 0.1)
    provider = ControlledProvider([TextDelta("ab"), asyncio.Event()], says("abc"))
    completion = await open_gateway([provider], attempts=2).call("fake", CALL, 8)
    assert (completion.ending, completion.text) == (Ending.FINISHED, "abc")
    assert len(provider.calls) == 2


async def test_a_slow_stream_that_keeps_talking_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.lvlm.silence.LONGEST_SILENCE", 0.3)
    steps: list[Step] = [step for letter in "abcdef" for step in (0.1, TextDelta(letter))]
    completion = await open_gateway([ControlledProvider([*steps, *says("")])]).call("fake", CALL, 8)
    assert (completion.ending, completion.text) == (Ending.FINISHED, "abcdef")


async def test_a_plain_answer_may_be_silent_until_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.lvlm.silence.LONGEST_SILENCE", 0.05)
    plain = Call(PROMPT, MODEL, 100, stream=False)
    completion = await open_gateway([ControlledProvider([0.2, *says("abc")])]).call("fake", plain, 8)
    assert completion.ending is Ending.FINISHED


# --- trying again -----------------------------------------------------------------------------------------


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


# --- whom to leave alone ----------------------------------------------------------------------------------


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


async def test_callers_who_leave_are_no_fault_of_the_provider() -> None:
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
    monkeypatch.setattr("service.lvlm.breaker.UNANSWERED", 0.1)
    provider = ControlledProvider([asyncio.Event()])
    gateway = open_gateway([provider], concurrency=MIN_ATTEMPTS)
    await asyncio.gather(*(gateway.call("fake", CALL, 0.15) for _ in range(MIN_ATTEMPTS)))
    assert gateway.state("fake", MODEL).breaker.open


async def test_a_retry_stops_when_the_breaker_opens_meanwhile() -> None:
    provider = ControlledProvider(fails(FailureKind.SERVER))
    gateway = open_gateway([provider], attempts=100)
    gateway._retries = Instantly(100)
    completion = await gateway.call("fake", CALL, 60)
    assert completion.ending is Ending.PROVIDER
    assert len(provider.calls) == MIN_ATTEMPTS


# --- how many at once -------------------------------------------------------------------------------------


async def test_never_more_calls_are_under_way_than_there_are_places() -> None:
    provider = ControlledProvider([0.01, *says("abc")])
    gateway = open_gateway([provider], concurrency=3)
    results = await asyncio.gather(*(gateway.call("fake", CALL, 8) for _ in range(20)))
    assert {completion.ending for completion in results} == {Ending.FINISHED}
    assert provider.most == 3


async def test_who_comes_first_is_served_first() -> None:
    concurrency, served = ConcurrencyLimit(1), []

    async def visit(number: int) -> None:
        assert await concurrency.acquire(within(5))
        served.append(number)
        await asyncio.sleep(0)
        concurrency.release()

    await asyncio.gather(*(visit(number) for number in range(10)))
    assert served == list(range(10))
    assert concurrency.in_use == 0


async def test_a_newcomer_does_not_pass_those_who_wait() -> None:
    concurrency = ConcurrencyLimit(1)
    assert await concurrency.acquire(within(0))
    waiting = asyncio.create_task(concurrency.acquire(within(5)))
    await asyncio.sleep(0)
    concurrency.release()
    assert not await concurrency.acquire(within(0.05))
    assert await waiting


async def test_nobody_waits_for_a_place_longer_than_asked() -> None:
    concurrency = ConcurrencyLimit(1)
    assert await concurrency.acquire(within(0))
    for seconds in (0.05, 0.0, -1.0):
        async with asyncio.timeout(2):
            assert not await concurrency.acquire(within(seconds))
    concurrency.release()
    assert concurrency.in_use == 0
    assert await concurrency.acquire(within(0))


async def test_a_place_given_in_the_moment_of_cancellation_is_passed_on() -> None:
    concurrency = ConcurrencyLimit(1)
    await concurrency.acquire(within(0))
    leaving = asyncio.create_task(concurrency.acquire(within(5)))
    staying = asyncio.create_task(concurrency.acquire(within(5)))
    await asyncio.sleep(0)
    concurrency.release()  # given to who leaves, who has not run since
    leaving.cancel()
    assert await asyncio.wait_for(staying, 1)
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert concurrency.in_use == 1


async def test_a_waiter_cancelled_in_the_moment_of_a_release_does_not_swallow_it() -> None:
    concurrency = ConcurrencyLimit(1)
    await concurrency.acquire(within(0))
    leaving = asyncio.create_task(concurrency.acquire(within(5)))
    staying = asyncio.create_task(concurrency.acquire(within(5)))
    await asyncio.sleep(0)
    leaving.cancel()
    concurrency.release()
    assert await asyncio.wait_for(staying, 1)
    await asyncio.gather(leaving, return_exceptions=True)
    assert concurrency.in_use == 1


@pytest.mark.parametrize("seed", range(5))
async def test_no_place_is_lost_or_invented_in_any_crowd(seed: int) -> None:
    chance, concurrency, inside = random.Random(seed), ConcurrencyLimit(4), 0

    async def visit(patience: float, turns: int, kind: FailureKind | None) -> None:
        nonlocal inside
        if not await concurrency.acquire(within(patience)):
            return
        inside += 1
        assert inside <= 4
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
            concurrency.learn(failed(kind) if kind else finished())
        finally:
            inside -= 1
            concurrency.release()

    tasks = []
    kinds = (None, None, None, FailureKind.RATE_LIMITED, FailureKind.SERVER)
    for _ in range(500):
        patience = chance.choice((-1.0, 0.0, 0.001, 5.0))
        tasks.append(asyncio.create_task(visit(patience, chance.randrange(4), chance.choice(kinds))))
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        if chance.random() < 0.5:
            await asyncio.sleep(0)
    async with asyncio.timeout(5):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
    assert concurrency.in_use == inside == 0
    assert not concurrency._waiting


async def test_too_much_shrinks_the_limit_once_for_all_who_had_begun_and_good_answers_win_it_back(
    metrics: Metrics,
) -> None:
    gate = asyncio.Event()
    refused = [gate, *fails(FailureKind.RATE_LIMITED)]
    provider = ControlledProvider(*[refused] * 8, [0.01, *says("abc")])
    gateway = open_gateway([provider], metrics, concurrency=8)
    concurrency = gateway.state("fake", MODEL).concurrency
    waiting = [asyncio.create_task(gateway.call("fake", CALL, 5)) for _ in range(8)]
    await provider.called(8)
    gate.set()
    await asyncio.gather(*waiting)
    shrunk = int(DECREASE * 8)
    assert 1 < concurrency.limit == shrunk < 8
    assert count(metrics, "msr_lvlm_places", provider="fake", model=MODEL) == shrunk
    provider.most = 0
    await asyncio.gather(*(gateway.call("fake", CALL, 5) for _ in range(shrunk)))
    assert provider.most == shrunk
    await asyncio.gather(*(gateway.call("fake", CALL, 5) for _ in range(40)))
    assert concurrency.limit == 8
    assert provider.most == 8
    assert concurrency.in_use == 0


async def test_the_limit_never_falls_below_one_and_never_rises_above_the_ceiling() -> None:
    concurrency = ConcurrencyLimit(4)
    for _ in range(20):
        assert await concurrency.acquire(within(0))
        concurrency.learn(failed(FailureKind.OVERLOADED))
        concurrency.release()
        await asyncio.sleep(0.001)
    assert concurrency.limit == 1
    for _ in range(100):
        concurrency.learn(finished())
    assert concurrency.limit == 4


async def test_a_complaint_in_a_quiet_moment_is_no_word_about_the_number_of_calls() -> None:
    concurrency = ConcurrencyLimit(256)
    await concurrency.acquire(within(0))
    concurrency.learn(failed(FailureKind.RATE_LIMITED))
    assert concurrency.limit == int(DECREASE * 256)


async def test_who_is_joined_by_somebody_with_more_time_keeps_the_place_in_line() -> None:
    concurrency, served = ConcurrencyLimit(1), []
    until = now() + 0.05
    await concurrency.acquire(within(0))

    async def visit(name: str, leave: Callable[[], float]) -> None:
        if await concurrency.acquire(leave):
            served.append(name)
            concurrency.release()

    tasks = [asyncio.create_task(visit("first", lambda: until))]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(visit("second", within(5))))
    await asyncio.sleep(0)
    until = now() + 5
    await asyncio.sleep(0.1)
    concurrency.release()
    await asyncio.gather(*tasks)
    assert served == ["first", "second"]


async def test_a_call_that_nobody_waits_for_leaves_half_of_the_places_to_others() -> None:
    gate = asyncio.Event()
    provider = ControlledProvider([gate, *says("abc")])
    gateway = open_gateway([provider], concurrency=4)

    def unawaited() -> asyncio.Task[Completion]:
        return asyncio.create_task(
            gateway.call("fake", CALL, 5, progress=CallProgress(until=now(), awaited=False))
        )

    calls = [unawaited() for _ in range(4)]
    await provider.called(2)
    await asyncio.sleep(0.05)
    assert len(provider.calls) == 2
    gate.set()
    endings = [(await call).ending for call in calls]
    assert endings == [Ending.FINISHED, Ending.FINISHED, Ending.LIMIT, Ending.LIMIT]


async def test_a_call_that_nobody_waits_for_draws_nothing_ahead_of_time() -> None:
    provider = ControlledProvider(says("abc"))
    gateway = open_gateway([provider], limits={"fake": RateLimit(requests_per_minute=60)})
    for _ in range(20):
        await gateway.call("fake", CALL, 60, progress=CallProgress(until=now(), awaited=False))
    assert BURST <= len(provider.calls) <= BURST + 1
    began = now()
    assert (await gateway.call("fake", CALL, 5)).ending is Ending.FINISHED
    assert now() - began < 2


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


async def test_who_thinks_aloud_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.lvlm.silence.LONGEST_SILENCE", 0.1)
    provider = ControlledProvider([Alive(), 0.06, Alive(), 0.06, Alive(), 0.06, *says("abc")])
    completion = await open_gateway([provider]).call("fake", CALL, 5)
    assert completion.text == "abc"
    assert len(provider.calls) == 1


async def test_an_answer_does_not_wait_for_the_meters() -> None:
    class Late(MemoryMeters):
        async def correct(self, flows: Sequence[Flow]) -> None:
            await asyncio.sleep(0.3)
            await super().correct(flows)

    gateway = open_gateway([ControlledProvider(says("abc"))], meters=Late(), budget=Budget(usd_per_day=1.0))
    began = now()
    assert (await gateway.call("fake", CALL, 5)).ending is Ending.FINISHED
    assert now() - began < 0.2
    await gateway.close()
    assert await totals(gateway) == pytest.approx([DOLLARS])


async def test_what_a_refused_attempt_had_drawn_is_given_back_whole() -> None:
    provider = ControlledProvider(fails(FailureKind.AUTHENTICATION))
    meters = MemoryMeters()
    gateway = open_gateway([provider], meters=meters, limits={"fake": RateLimit(requests_per_minute=1)})
    line = gateway.state("fake", MODEL)
    admit = line.breaker.admit
    line.breaker.admit = lambda: False  # type: ignore[method-assign]  # it opened while the call waited its turn
    await gateway.call("fake", CALL, 0.5)
    line.breaker.admit = admit  # type: ignore[method-assign]
    await gateway.call("fake", CALL, 0.5)
    assert len(provider.calls) == 1


async def test_a_limit_that_is_not_adaptive_stays() -> None:
    concurrency = ConcurrencyLimit(4, adaptive=False)
    await concurrency.acquire(within(0))
    concurrency.learn(failed(FailureKind.RATE_LIMITED))
    assert concurrency.limit == 4


async def test_a_limit_that_grows_lets_in_who_waits() -> None:
    concurrency = ConcurrencyLimit(2)
    await concurrency.acquire(within(0))
    concurrency.learn(failed(FailureKind.RATE_LIMITED))
    assert concurrency.limit == 1
    waiting = asyncio.create_task(concurrency.acquire(within(5)))
    await asyncio.sleep(0)
    concurrency.learn(finished())
    assert await asyncio.wait_for(waiting, 1)


# --- a second attempt beside a slow one -------------------------------------------------------------------


async def taught(gateway: Gateway, calls: int = 60) -> None:
    """Let a gateway see how soon the model begins, and earn a second attempt or two."""
    for _ in range(calls):
        await gateway.call("fake", CALL, 5)


def racing(*slow: Sequence[Step], **options: Any) -> tuple[Gateway, ControlledProvider, Metrics]:
    """A gateway that has seen sixty quick answers; these scripts are next, and quick ones follow."""
    metrics, quick = Metrics(), [0.005, *says("quick")]
    provider = ControlledProvider(*[quick] * 60, *slow, quick)
    return open_gateway([provider], metrics, hedge=0.05, **options), provider, metrics


async def test_a_call_that_is_slow_to_begin_is_made_a_second_time_and_the_first_answer_counts() -> None:
    gateway, provider, metrics = racing([2.0, *says("slow")])
    await taught(gateway)
    began = now()
    completion = await gateway.call("fake", CALL, 5)
    assert now() - began < 0.5
    assert completion.text == "quick"
    assert len(provider.calls) == 62
    assert provider.cancelled == 1
    assert provider.under_way == 0
    for result in ("made", "won"):
        assert count(metrics, "msr_lvlm_hedges_total", provider="fake", model=MODEL, result=result) == 1
    # Both are in the bill: one as it was told, one as it is estimated.
    assert completion.bill.usage.input_tokens > 1.5 * BILLED.input_tokens
    assert completion.bill.estimated
    assert gateway.state("fake", MODEL).concurrency.in_use == 0


async def test_the_first_attempt_may_still_win() -> None:
    gateway, provider, metrics = racing([0.15, *says("first")], [5.0, *says("second")])
    await taught(gateway)
    assert (await gateway.call("fake", CALL, 5)).text == "first"
    assert len(provider.calls) == 62
    assert count(metrics, "msr_lvlm_hedges_total", provider="fake", model=MODEL, result="won") == 0
    assert gateway.state("fake", MODEL).concurrency.in_use == 0


async def test_of_two_that_begin_in_the_same_moment_one_answer_is_given_whole() -> None:
    first, second = asyncio.Event(), asyncio.Event()
    rest = [0.02, *says(" to the end")]
    gateway, provider, _ = racing(
        [first, TextDelta("the first"), *rest], [second, TextDelta("the second"), *rest]
    )
    await taught(gateway)
    call = asyncio.create_task(gateway.call("fake", CALL, 5))
    await provider.called(62)
    await asyncio.sleep(0.01)
    second.set()
    first.set()
    assert (await call).text == "the second to the end"


async def test_when_the_first_fails_the_second_goes_on() -> None:
    gateway, provider, _ = racing([0.15, *fails(FailureKind.SERVER)], [0.2, *says("second")])
    await taught(gateway)
    completion = await gateway.call("fake", CALL, 5)
    assert (completion.ending, completion.text) == (Ending.FINISHED, "second")
    assert len(provider.calls) == 62


async def test_when_both_fail_the_call_has_failed() -> None:
    refused = fails(FailureKind.REQUEST)
    gateway, provider, _ = racing([0.15, *refused], [0.05, *refused])
    await taught(gateway)
    completion = await gateway.call("fake", CALL, 5)
    assert (completion.ending, completion.failure) == (Ending.PROVIDER, FailureKind.REQUEST)
    assert len(provider.calls) == 62


async def test_both_end_with_the_deadline_and_the_prefix_of_the_one_that_began_is_kept() -> None:
    gateway, provider, _ = racing([asyncio.Event()], [0.02, TextDelta("ab"), asyncio.Event()])
    await taught(gateway)
    completion = await gateway.call("fake", CALL, 0.4)
    assert (completion.ending, completion.text) == (Ending.DEADLINE, "ab")
    assert provider.under_way == 0


async def test_second_attempts_are_a_small_share_of_all() -> None:
    slow = [0.06, *says("slow")]
    gateway, provider, metrics = racing(*[slow] * 40)
    await taught(gateway, 80)
    made = count(metrics, "msr_lvlm_hedges_total", provider="fake", model=MODEL, result="made")
    assert 1 <= made <= 5
    assert len(provider.calls) == 80 + made


@pytest.mark.parametrize("progress", [{"awaited": False}, {"alone": True}], ids=["unawaited", "measured"])
async def test_nobody_hedges_what_nobody_waits_for_nor_what_is_measured(progress: dict[str, bool]) -> None:
    gateway, provider, _ = racing([0.15, *says("slow")])
    await taught(gateway)
    completion = await gateway.call("fake", CALL, 5, progress=CallProgress(until=now() + 5, **progress))
    assert completion.text == "slow"
    assert len(provider.calls) == 61


async def test_a_second_attempt_needs_a_place_and_money_at_once() -> None:
    gateway, provider, _ = racing([0.15, *says("slow")], concurrency=1)
    await taught(gateway)
    assert (await gateway.call("fake", CALL, 5)).text == "slow"
    gateway, other, _ = racing([0.15, *says("slow")], budget=Budget(usd_per_day=62 * DOLLARS))
    await taught(gateway)
    assert (await gateway.call("fake", CALL, 5)).text == "slow"
    assert len(provider.calls) == len(other.calls) == 61
    assert gateway.state("fake", MODEL).concurrency.in_use == 0


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.02, 0.03, 0.05])
async def test_whoever_leaves_a_race_at_whatever_moment_nothing_of_it_is_left(seconds: float) -> None:
    gateway, provider, metrics = racing([0.3, *says("slow")], [0.3, *says("slow")])
    await taught(gateway)
    call = asyncio.create_task(gateway.call("fake", CALL, 5))
    await asyncio.sleep(seconds)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await asyncio.sleep(0)
    assert provider.under_way == 0
    assert gateway.state("fake", MODEL).concurrency.in_use == 0
    counted = metrics.registry.get_sample_value("msr_lvlm_inflight") or 0.0
    assert counted == 0.0


# --- how much per minute, and for how many dollars --------------------------------------------------------


def bill(tokens: int = 0, dollars: float = 0.0) -> Bill:
    return Bill(Usage(input_tokens=tokens), dollars)


async def granted(quota: Quota, expected: Bill, patience: float = 0.05) -> Reservation:
    found = await quota.reserve("fake", MODEL, expected, now() + patience)
    assert isinstance(found, Reservation)
    return found


def limited(meters: Meters | None = None, budget: Budget | None = None, **limit: float) -> Quota:
    local = MemoryMeters()
    return Quota(meters or local, local, {"fake": RateLimit(**limit)}, budget)


async def test_without_limits_no_meter_is_asked() -> None:
    quota = Quota(BrokenMeters(), BrokenMeters())
    grant = await granted(quota, bill(10**9, 10**9))
    await quota.settle(grant, bill(1, 1))


async def test_more_requests_than_the_minute_allows_end_at_the_limit_and_make_no_call() -> None:
    provider = ControlledProvider(says("abc"))
    limits = {"fake": RateLimit(requests_per_minute=60 * 3 / BURST)}
    gateway = open_gateway([provider], limits=limits)
    results = await asyncio.gather(*(gateway.call("fake", CALL, 0.5) for _ in range(6)))
    assert [completion.ending for completion in results] == [Ending.FINISHED] * 3 + [Ending.LIMIT] * 3
    assert len(provider.calls) == 3


async def test_a_request_waits_for_its_turn_if_it_has_the_time() -> None:
    provider = ControlledProvider(says("abc"))
    gateway = open_gateway([provider], limits={"fake": RateLimit(requests_per_minute=240)})
    results = await asyncio.gather(*(gateway.call("fake", CALL, 8) for _ in range(42)))
    assert {completion.ending for completion in results} == {Ending.FINISHED}
    first, *_, last = sorted(provider.times)
    assert 0.45 < last - first < 2  # two beyond the burst of 40, at four per second


@pytest.mark.parametrize(("name", "made"), [("fake", 2), (f"fake/{MODEL}", 2), ("fake/other", 4), ("x", 4)])
async def test_a_limit_holds_for_what_it_names(name: str, made: int) -> None:
    provider = ControlledProvider(says("abc"))
    gateway = open_gateway([provider], limits={name: RateLimit(requests_per_minute=60 * 2 / BURST)})
    await asyncio.gather(*(gateway.call("fake", CALL, 0.3) for _ in range(4)))
    assert len(provider.calls) == made


async def test_every_attempt_counts_against_the_requests_per_minute() -> None:
    provider = ControlledProvider(fails(FailureKind.SERVER), says("abc"))
    limits = {"fake": RateLimit(requests_per_minute=60 * 2 / BURST)}
    gateway = open_gateway([provider], attempts=2, limits=limits)
    assert (await gateway.call("fake", CALL, 2)).ending is Ending.FINISHED
    assert (await gateway.call("fake", CALL, 0.3)).ending is Ending.LIMIT
    assert len(provider.calls) == 2


async def test_tokens_that_were_not_used_are_given_back() -> None:
    quota = limited(tokens_per_minute=6_000)  # a burst of 1,000
    grant = await granted(quota, bill(600))
    assert await quota.reserve("fake", MODEL, bill(600), now() + 0.05) is Ending.LIMIT
    await quota.settle(grant, bill(100))
    await granted(quota, bill(600))


async def test_tokens_beyond_what_was_expected_delay_those_that_follow() -> None:
    quota = limited(tokens_per_minute=6_000)
    grant = await granted(quota, bill(100))
    await quota.settle(grant, bill(950))
    assert await quota.reserve("fake", MODEL, bill(100), now() + 0.05) is Ending.LIMIT


async def test_a_limit_gives_the_budget_back() -> None:
    quota = limited(budget=Budget(usd_per_hour=CAUTION), requests_per_minute=60 / BURST)
    await granted(quota, bill(dollars=0.4))
    for _ in range(5):
        assert await quota.reserve("fake", MODEL, bill(dollars=0.4), now() + 0.05) is Ending.LIMIT
    other = await quota.reserve("other", MODEL, bill(dollars=0.6), now() + 0.05)
    assert isinstance(other, Reservation)


@pytest.mark.parametrize(
    "budget",
    [Budget(usd_per_hour=0.6), Budget(usd_per_day=0.6), Budget(9.0, 0.6), Budget(0.6, 9.0)],
    ids=["hour", "day", "day of both", "hour of both"],
)
async def test_nothing_is_spent_beyond_the_budget(budget: Budget) -> None:
    quota = limited(budget=budget)
    grant = await granted(quota, bill(dollars=0.3))
    assert await quota.reserve("fake", MODEL, bill(dollars=0.3), now() + 1) is Ending.BUDGET
    await quota.settle(grant, bill(dollars=0.1))
    grant = await granted(quota, bill(dollars=0.3))
    await quota.settle(grant, bill(dollars=0.6))  # dearer than thought: it is spent all the same
    assert await quota.reserve("fake", MODEL, bill(dollars=0.001), now() + 1) is Ending.BUDGET


async def test_a_call_beyond_the_budget_is_not_made_and_says_so(metrics: Metrics) -> None:
    provider = ControlledProvider(says("abc"))
    gateway = open_gateway([provider], metrics, budget=Budget(usd_per_hour=(1.1 + CAUTION) * DOLLARS))
    await gateway.call("fake", CALL, 5)  # from then on the gateway knows what such a call takes
    endings = [(await gateway.call("fake", CALL, 5)).ending for _ in range(4)]
    assert endings == [Ending.FINISHED, *[Ending.BUDGET] * 3]
    spent = count(metrics, "msr_lvlm_cost_usd_total", provider="fake", model=MODEL)
    assert spent == pytest.approx(2 * DOLLARS)


async def test_many_calls_at_once_do_not_slip_past_the_budget_together(metrics: Metrics) -> None:
    provider = ControlledProvider([0.05, *says("abc")])
    gateway = open_gateway(
        [provider], metrics, concurrency=50, budget=Budget(usd_per_day=(1.1 + 4 * CAUTION) * DOLLARS)
    )
    await gateway.call("fake", CALL, 5)
    await asyncio.gather(*(gateway.call("fake", CALL, 5) for _ in range(50)))
    assert len(provider.calls) == 5


async def test_a_failure_that_nobody_bills_leaves_the_budget_whole() -> None:
    provider = ControlledProvider(fails(FailureKind.SERVER), says("abc"))
    gateway = open_gateway([provider], budget=Budget(usd_per_hour=1.0))
    await gateway.call("fake", CALL, 5)
    assert await totals(gateway) == pytest.approx([0.0])
    await gateway.call("fake", CALL, 5)
    assert await totals(gateway) == pytest.approx([DOLLARS])


async def test_what_costs_nothing_needs_no_budget(metrics: Metrics) -> None:
    provider, meters = ControlledProvider(says("abc")), MemoryMeters()
    gateway = Gateway(
        {"fake": provider},
        Ledger(Prices.read(), metrics, simulators=["fake"]),
        Quota(meters, meters, budget=Budget(usd_per_hour=0.0)),
        metrics,
        concurrency=8,
    )
    completion = await gateway.call("fake", CALL, 5)
    assert (completion.ending, completion.bill.cost_usd) == (Ending.FINISHED, 0.0)


@pytest.mark.parametrize("turns", range(14))
async def test_who_leaves_before_the_attempt_gets_everything_back(turns: int) -> None:
    """Cancelled after each number of turns of the event loop, with meters as slow as a network."""
    meters = SlowMeters()
    quota = limited(meters, Budget(usd_per_hour=10.0), requests_per_minute=60, tokens_per_minute=6_000)
    await granted(quota, bill(900, 1.0))
    full_before = dict(meters.kept._full_at)
    leaving = asyncio.create_task(quota.reserve("fake", MODEL, bill(300, 2.0), now() + 5))
    for _ in range(turns):
        await asyncio.sleep(0)
    assert not leaving.done()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert [total for total, _ in meters.kept._totals.values()] == pytest.approx([CAUTION])
    assert meters.kept._full_at == pytest.approx(full_before)


async def test_while_the_shared_meters_are_away_a_process_keeps_to_its_share() -> None:
    quota = Quota(
        BrokenMeters(),
        MemoryMeters(share=0.5),
        {"fake": RateLimit(requests_per_minute=60 * 4 / BURST)},
        Budget(usd_per_hour=1.0),
    )
    grant = await granted(quota, bill(dollars=0.3))
    assert await quota.reserve("fake", MODEL, bill(dollars=0.2), now() + 0.05) is Ending.BUDGET
    await quota.settle(grant, bill(dollars=0.1))
    await granted(quota, bill())
    assert await quota.reserve("fake", MODEL, bill(), now() + 0.05) is Ending.LIMIT


async def test_meters_that_go_away_during_an_attempt_do_it_no_harm() -> None:
    meters = SlowMeters()
    quota = limited(meters, Budget(usd_per_hour=1.0), tokens_per_minute=6_000)
    provider, metrics = ControlledProvider([asyncio.Event()]), Metrics()
    provider = ControlledProvider([0.05, *says("abc")])
    gateway = Gateway({"fake": provider}, Ledger(Prices.read(), metrics), quota, metrics, concurrency=1)
    calling = asyncio.create_task(gateway.call("fake", CALL, 5))
    await provider.called(1)
    meters.down = True
    assert (await calling).ending is Ending.FINISHED


# --- whom to ask instead ----------------------------------------------------------------------------------


def two(first: Sequence[Step], second: Sequence[Step]) -> tuple[ControlledProvider, ControlledProvider]:
    return ControlledProvider(first, name="fake"), ControlledProvider(second, name="other")


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


async def test_who_is_left_alone_is_passed_over_without_a_call() -> None:
    first, second = two(fails(FailureKind.AUTHENTICATION), says("abc"))
    gateway = open_gateway([first, second])
    for _ in range(3):
        completion = await gateway.call("fake", CALL, 5, alternatives=[("other", MODEL)])
        assert completion.responder.provider == "other"
    assert (len(first.calls), len(second.calls)) == (1, 3)


async def test_who_is_at_its_limit_is_passed_over_if_waiting_would_take_too_long() -> None:
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


async def test_if_all_fail_the_last_failure_is_told_and_no_text() -> None:
    first, second = two([TextDelta("ab")], [TextDelta("cd"), *fails(FailureKind.CONNECTION)])
    completion = await open_gateway([first, second]).call("fake", CALL, 5, alternatives=[("other", MODEL)])
    assert (completion.ending, completion.failure) == (Ending.PROVIDER, FailureKind.CONNECTION)
    assert completion.text == ""
    assert completion.responder.provider == "other"


# --- the books --------------------------------------------------------------------------------------------


def booked(metrics: Metrics, direction: str, provider: str = "fake", *, estimated: bool = False) -> float:
    name = "msr_lvlm_estimated_tokens_total" if estimated else "msr_lvlm_tokens_total"
    return count(metrics, name, provider=provider, model=MODEL, direction=direction)


async def test_a_call_takes_what_all_its_attempts_took_over_all_providers(metrics: Metrics) -> None:
    first = ControlledProvider([TextDelta("abcd " * 20)], fails(FailureKind.SERVER), name="fake")
    second = ControlledProvider([TextDelta("ab"), Usage(50, 3)], says("abc"), name="other")
    gateway = open_gateway([first, second], metrics, attempts=2)
    completion = await gateway.call("fake", CALL, 5, alternatives=[("other", MODEL)])
    assert completion.ending is Ending.FINISHED
    for direction, total in (
        ("input", completion.bill.usage.input_tokens),
        ("output", completion.bill.usage.output_tokens),
    ):
        booked_in_all = booked(metrics, direction, "fake") + booked(metrics, direction, "other")
        assert booked_in_all == total
    assert booked(metrics, "input", "fake") > 0
    assert booked(metrics, "input", "other") == 150
    assert completion.bill.estimated
    spent = sum(
        count(metrics, "msr_lvlm_cost_usd_total", provider=name, model=MODEL) for name in ("fake", "other")
    )
    assert completion.bill.cost_usd == pytest.approx(spent)
    calls = "msr_lvlm_call_duration_seconds_count"
    assert count(metrics, calls, provider="fake", model=MODEL, outcome="truncated") == 1
    assert count(metrics, calls, provider="fake", model=MODEL, outcome="server") == 1
    assert count(metrics, calls, provider="other", model=MODEL, outcome="truncated") == 1
    assert count(metrics, calls, provider="other", model=MODEL, outcome="ok") == 1


BEFORE_ANY_WORK = [
    FailureKind.RATE_LIMITED,
    FailureKind.OVERLOADED,
    FailureKind.SERVER,
    FailureKind.UNREACHABLE,
    FailureKind.AUTHENTICATION,
    FailureKind.REQUEST,
]


@pytest.mark.parametrize("kind", BEFORE_ANY_WORK)
async def test_a_failure_before_any_work_costs_nothing(metrics: Metrics, kind: FailureKind) -> None:
    completion = await open_gateway([ControlledProvider(fails(kind))], metrics).call("fake", CALL, 5)
    assert (completion.bill.usage, completion.bill.cost_usd, completion.bill.estimated) == (
        Usage(),
        0.0,
        False,
    )


@pytest.mark.parametrize("kind", BEFORE_ANY_WORK)
async def test_the_same_failure_in_the_middle_of_an_answer_is_counted_and_marked(
    metrics: Metrics, kind: FailureKind
) -> None:
    script = [TextDelta("abcd " * 20), ProviderError(kind, "no")]
    completion = await open_gateway([ControlledProvider(script)], metrics).call("fake", CALL, 5)
    assert completion.bill.estimated
    assert completion.bill.usage.input_tokens > 0
    assert completion.bill.usage.output_tokens > 0
    assert (completion.bill.cost_usd or 0.0) > 0
    assert booked(metrics, "input", estimated=True) == completion.bill.usage.input_tokens


async def test_a_connection_that_broke_may_have_cost_something(metrics: Metrics) -> None:
    provider = ControlledProvider(fails(FailureKind.CONNECTION))
    completion = await open_gateway([provider], metrics).call("fake", CALL, 5)
    assert completion.bill.estimated
    assert completion.bill.usage.input_tokens > 0


async def test_a_cancelled_call_is_in_the_books_and_marked(metrics: Metrics) -> None:
    provider = ControlledProvider([TextDelta("abcd " * 20), asyncio.Event()])
    gateway = open_gateway([provider], metrics)
    leaving = asyncio.create_task(gateway.call("fake", CALL, 5))
    await provider.called(1)
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    for direction in ("input", "output"):
        assert booked(metrics, direction) == booked(metrics, direction, estimated=True) > 0
    calls = "msr_lvlm_call_duration_seconds_count"
    assert count(metrics, calls, provider="fake", model=MODEL, outcome="cancelled") == 1
    assert count(metrics, "msr_lvlm_inflight") == 0
    assert gateway.state("fake", MODEL).concurrency.in_use == 0


async def test_a_finished_answer_without_usage_is_estimated_and_marked(metrics: Metrics) -> None:
    provider = ControlledProvider(says("abcd " * 20, usage=None))
    completion = await open_gateway([provider], metrics).call("fake", CALL, 5)
    assert (completion.ending, completion.bill.estimated) == (Ending.FINISHED, True)
    assert completion.bill.usage.input_tokens > 50
    assert completion.bill.usage.output_tokens > 10


async def test_input_tokens_told_at_the_start_are_kept_when_the_stream_breaks(metrics: Metrics) -> None:
    provider = ControlledProvider([Usage(321, 1), TextDelta("abcd " * 20)])
    completion = await open_gateway([provider], metrics).call("fake", CALL, 5)
    assert completion.bill.usage.input_tokens == 321
    assert completion.bill.usage.output_tokens > 10
    assert completion.bill.estimated


@pytest.mark.parametrize("turns", range(0, 60, 2))
async def test_whoever_leaves_whenever_the_budget_and_the_books_agree_and_no_place_is_lost(
    metrics: Metrics, turns: int
) -> None:
    """Cancelled after each number of turns of the event loop, through a retry and an alternative."""
    shared, local = SlowMeters(), MemoryMeters()
    steps: list[Step] = [TextDelta("ab"), 0.0, TextDelta("cd"), 0.0]
    first = ControlledProvider([*steps, *fails(FailureKind.CONNECTION)], name="fake")
    second = ControlledProvider([*steps, *says("abc")], name="other")
    limits = {"fake": RateLimit(600, 60_000), "other": RateLimit(600, 60_000)}
    gateway = Gateway(
        {"fake": first, "other": second},
        Ledger(Prices.read(), metrics),
        Quota(shared, local, limits, Budget(usd_per_hour=10.0)),
        metrics,
        concurrency=1,
        retries=Instantly(2),
    )
    leaving = asyncio.create_task(gateway.call("fake", CALL, 5, alternatives=[("other", MODEL)]))
    for _ in range(turns):
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await eventually(lambda: len(asyncio.all_tasks()) == 1)
    spent = sum(
        count(metrics, "msr_lvlm_cost_usd_total", provider=name, model=MODEL) for name in ("fake", "other")
    )
    for meters in (shared.kept, local):
        assert sum(total for total, _ in meters._totals.values()) == pytest.approx(spent, abs=1e-9)
    for name in ("fake", "other"):
        assert gateway.state(name, MODEL).concurrency.in_use == 0
    assert first.under_way == second.under_way == 0
    assert count(metrics, "msr_lvlm_inflight") == 0


def within(seconds: float) -> Callable[[], float]:
    until = now() + seconds
    return lambda: until


async def totals(gateway: Gateway) -> list[float]:
    """What the meters of a gateway say was spent, once its books are closed."""
    await asyncio.gather(*gateway._backend.quota._settling)
    meters = gateway._backend.quota._meters
    assert isinstance(meters, MemoryMeters)
    return [total for total, _ in meters._totals.values()]


class Instantly(Retries):
    """Tries again without a pause."""

    def pause(self, attempt: Attempt, made: int) -> float | None:
        return None if super().pause(attempt, made) is None else 0.0


class SlowMeters:
    """Meters beyond a network: every operation takes a few turns of the event loop, and it may be down.

    Attributes:
        kept: what is there at the other end.
    """

    down = False

    def __init__(self) -> None:
        self.kept = MemoryMeters()

    async def draw(self, flows: Sequence[Flow], patience: float) -> float | None:
        await self._travel()
        drawn = await self.kept.draw(flows, patience)
        await self._travel()
        return drawn

    async def correct(self, flows: Sequence[Flow]) -> None:
        await self._travel()
        await self.kept.correct(flows)
        await self._travel()

    async def add(self, sums: Sequence[Sum]) -> bool:
        await self._travel()
        added = await self.kept.add(sums)
        await self._travel()
        return added

    async def settle(self, sums: Sequence[Sum]) -> None:
        await self._travel()
        await self.kept.settle(sums)
        await self._travel()

    async def _travel(self) -> None:
        if self.down:
            raise StoreError("down")
        await asyncio.sleep(0)


class BrokenMeters:
    """A store that is down."""

    async def draw(self, flows: Sequence[Flow], patience: float) -> float | None:
        raise StoreError("down")

    async def correct(self, flows: Sequence[Flow]) -> None:
        raise StoreError("down")

    async def add(self, sums: Sequence[Sum]) -> bool:
        raise StoreError("down")

    async def settle(self, sums: Sequence[Sum]) -> None:
        raise StoreError("down")
