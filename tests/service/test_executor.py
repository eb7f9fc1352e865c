"""Tests that the queue of the executor is bounded, and that a call which does not fit is refused."""

import asyncio
import threading

import pytest
from controlled_provider import eventually

from service.errors import OverloadedError
from service.executor import BoundedExecutor


@pytest.fixture
def gate() -> threading.Event:
    return threading.Event()


async def test_work_runs_off_the_event_loop_and_brings_back_its_result() -> None:
    executor = BoundedExecutor(threads=1, queue=1)
    assert await executor.run(lambda left, right: (left + right, threading.current_thread().name), 1, 2) == (
        3,
        "recommendations_0",
    )
    executor.close()


async def test_an_error_of_the_work_reaches_the_caller() -> None:
    executor = BoundedExecutor(threads=1, queue=1)
    with pytest.raises(ZeroDivisionError):
        await executor.run(lambda: 1 / 0)
    executor.close()


async def test_what_does_not_fit_is_refused_and_fits_again_later(gate: threading.Event) -> None:
    executor = BoundedExecutor(threads=1, queue=2)
    waiting = [asyncio.create_task(executor.run(gate.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError) as caught:
        await executor.run(gate.wait)
    assert caught.value.status == 429
    assert caught.value.retry_after == 1
    gate.set()
    assert await asyncio.gather(*waiting) == [True, True, True]
    assert await executor.run(lambda: "again") == "again"
    executor.close()


async def test_a_request_that_goes_away_gives_its_place_back_only_when_its_thread_is_free(
    gate: threading.Event,
) -> None:
    executor, begun = BoundedExecutor(threads=1, queue=0), threading.Event()
    running = asyncio.create_task(executor.run(lambda: begun.set() or gate.wait()))
    await eventually(begun.is_set)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    with pytest.raises(OverloadedError):
        await executor.run(lambda: None)
    gate.set()

    async def fits() -> bool:
        try:
            await executor.run(lambda: None)
        except OverloadedError:
            return False
        return True

    await eventually(fits)
    executor.close()


async def test_a_queued_request_that_goes_away_frees_its_place(gate: threading.Event) -> None:
    executor, begun = BoundedExecutor(threads=1, queue=1), threading.Event()
    running = asyncio.create_task(executor.run(lambda: begun.set() or gate.wait()))
    await eventually(begun.is_set)
    queued = asyncio.create_task(executor.run(lambda: "never"))
    await asyncio.sleep(0)
    queued.cancel()
    await asyncio.gather(queued, return_exceptions=True)
    await asyncio.sleep(0)  # the place is given back by the loop
    following = asyncio.create_task(executor.run(lambda: "next"))
    await asyncio.sleep(0)
    gate.set()
    assert await following == "next"
    await running
    executor.close()
