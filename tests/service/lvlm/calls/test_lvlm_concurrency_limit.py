"""The concurrency limit: its permits, the order of waiting calls, and how it adapts to refusals."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from controlled_provider import ControlledProvider, fails, says
from gateway_parts import (
    CALL,
    MODEL,
    count,
    failed,
    finished,
    now,
    within,
)
from lvlm_parts import open_gateway

from service.lvlm.call_completion import Completion
from service.lvlm.calls.call_progress import CallProgress
from service.lvlm.calls.concurrency_limit import DECREASE, ConcurrencyLimit
from service.lvlm.provider_attempt import Ending
from service.lvlm.providers.base import (
    FailureKind,
)
from service.metrics import Metrics

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


async def test_never_more_calls_are_under_way_than_there_are_permits() -> None:
    provider = ControlledProvider([0.01, *says("abc")])
    gateway = open_gateway([provider], concurrency=3)
    results = await asyncio.gather(*(gateway.call("fake", CALL, 8) for _ in range(20)))
    assert {completion.ending for completion in results} == {Ending.FINISHED}
    assert provider.most == 3


async def test_waiting_calls_get_permits_in_the_order_of_their_arrival() -> None:
    concurrency, served = ConcurrencyLimit(1), []

    async def call(number: int) -> None:
        assert await concurrency.acquire(within(5))
        served.append(number)
        await asyncio.sleep(0)
        concurrency.release()

    await asyncio.gather(*(call(number) for number in range(10)))
    assert served == list(range(10))
    assert concurrency.in_use == 0


async def test_a_new_call_does_not_overtake_waiting_ones() -> None:
    concurrency = ConcurrencyLimit(1)
    assert await concurrency.acquire(within(0))
    waiting = asyncio.create_task(concurrency.acquire(within(5)))
    await asyncio.sleep(0)
    concurrency.release()
    assert not await concurrency.acquire(within(0.05))
    assert await waiting


async def test_no_call_waits_for_a_permit_longer_than_asked() -> None:
    concurrency = ConcurrencyLimit(1)
    assert await concurrency.acquire(within(0))
    for seconds in (0.05, 0.0, -1.0):
        async with asyncio.timeout(2):
            assert not await concurrency.acquire(within(seconds))
    concurrency.release()
    assert concurrency.in_use == 0
    assert await concurrency.acquire(within(0))


async def test_a_permit_given_in_the_moment_of_cancellation_is_passed_on() -> None:
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
async def test_no_permit_is_lost_or_invented_in_any_crowd(seed: int) -> None:
    chance, concurrency, inside = random.Random(seed), ConcurrencyLimit(4), 0

    async def call(patience: float, turns: int, kind: FailureKind | None) -> None:
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
        tasks.append(asyncio.create_task(call(patience, chance.randrange(4), chance.choice(kinds))))
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        if chance.random() < 0.5:
            await asyncio.sleep(0)
    async with asyncio.timeout(5):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
    assert concurrency.in_use == inside == 0
    assert not concurrency._waiting


async def test_a_refusal_shrinks_the_limit_once_for_all_attempts_that_had_begun_and_good_answers_raise_it(
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


async def test_a_call_joined_by_a_request_with_more_time_keeps_its_turn() -> None:
    concurrency, served = ConcurrencyLimit(1), []
    until = now() + 0.05
    await concurrency.acquire(within(0))

    async def call(name: str, leave: Callable[[], float]) -> None:
        if await concurrency.acquire(leave):
            served.append(name)
            concurrency.release()

    tasks = [asyncio.create_task(call("first", lambda: until))]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(call("second", within(5))))
    await asyncio.sleep(0)
    until = now() + 5
    await asyncio.sleep(0.1)
    concurrency.release()
    await asyncio.gather(*tasks)
    assert served == ["first", "second"]


async def test_a_call_that_no_request_waits_for_leaves_half_of_the_permits_to_others() -> None:
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


async def test_a_limit_that_is_not_adaptive_stays() -> None:
    concurrency = ConcurrencyLimit(4, adaptive=False)
    await concurrency.acquire(within(0))
    concurrency.learn(failed(FailureKind.RATE_LIMITED))
    assert concurrency.limit == 4


async def test_a_limit_that_grows_gives_permits_to_waiting_calls() -> None:
    concurrency = ConcurrencyLimit(2)
    await concurrency.acquire(within(0))
    concurrency.learn(failed(FailureKind.RATE_LIMITED))
    assert concurrency.limit == 1
    waiting = asyncio.create_task(concurrency.acquire(within(5)))
    await asyncio.sleep(0)
    concurrency.learn(finished())
    assert await asyncio.wait_for(waiting, 1)
