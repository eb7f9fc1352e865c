"""Tests the clock that tests move: it is exact, and stands still while there is something to do."""

from __future__ import annotations

import asyncio
import datetime
import threading
import time

import pytest
from moved_clock import MovedClock, _real
from served import simulator_served

HOUR = 3_600.0


async def test_waiting_takes_exactly_as_long_as_asked_and_no_real_time(clock: MovedClock) -> None:
    began, really = clock.now(), _real["monotonic"]()
    await asyncio.gather(*(asyncio.sleep(HOUR * number) for number in (3, 1, 2)))
    assert clock.now() - began == pytest.approx(3 * HOUR)
    assert _real["monotonic"]() - really < HOUR


async def test_all_clocks_pass_alike(clock: MovedClock) -> None:
    def told() -> list[float]:
        return [time.monotonic(), time.perf_counter(), time.time(), asyncio.get_running_loop().time()]

    before, day = told(), datetime.date.today()
    await asyncio.sleep(10 * 24 * HOUR)
    assert [after - first for after, first in zip(told(), before, strict=True)] == pytest.approx(
        [864_000] * 4
    )
    assert datetime.date.today() - day == datetime.timedelta(days=10)


async def test_who_took_a_function_of_time_for_itself_follows_too(clock: MovedClock) -> None:
    from service.lvlm.provider_attempt import Attempt
    from service.lvlm.providers.base import Call, Prompt

    attempt = Attempt("fake", Call(Prompt("", (), None, ""), "m", 1))
    clock.move(7)
    assert attempt.seconds == pytest.approx(7)


async def test_appointments_are_kept_in_their_order(clock: MovedClock) -> None:
    kept: list[int] = []
    loop = asyncio.get_running_loop()
    for number in (3, 1, 2):
        loop.call_later(number, kept.append, number)
    await asyncio.sleep(2.5)
    assert kept == [1, 2]


async def test_a_timeout_comes_when_it_is_due(clock: MovedClock) -> None:
    began = clock.now()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await asyncio.Event().wait()
    assert clock.now() - began == pytest.approx(0.3)


async def test_time_stands_still_while_a_thread_works(clock: MovedClock) -> None:
    began, end = clock.now(), threading.Event()
    asyncio.get_running_loop().call_soon(lambda: threading.Timer(0.05, end.set).start())
    async with asyncio.timeout(0.001):
        assert await asyncio.to_thread(end.wait)
    assert clock.now() == began


async def test_time_stands_still_while_bytes_are_on_their_way(clock: MovedClock) -> None:
    """A megabyte goes through two sockets of this loop within an instant."""
    async with simulator_served() as url:
        host, port = url.removeprefix("http://").split(":")
        began = clock.now()
        reader, writer = await asyncio.open_connection(host, int(port))
        body = b" " * 2**20
        head = (
            f"POST /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        async with asyncio.timeout(0.5):
            assert b"404" in await reader.readline()
        assert clock.now() - began < 0.2  # the server looks around ten times a second
        writer.close()


def test_a_test_without_an_event_loop_moves_it_by_hand(clock: MovedClock) -> None:
    before = time.monotonic()
    clock.move(HOUR)
    assert time.monotonic() - before == HOUR


def test_without_the_clock_the_time_is_real() -> None:
    assert time.time() == pytest.approx(_real["time"](), abs=HOUR)
