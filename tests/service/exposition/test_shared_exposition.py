"""Tests that any number of scrapes cost as much as one client that never stops asking."""

from __future__ import annotations

import asyncio

import pytest
from moved_clock import MovedClock

from service.exposition.shared_exposition import SharedExposition


class Counted:
    """Makes expositions that take a while, and remembers when each began and ended."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.spans: list[tuple[float, float]] = []
        self.under_way = 0

    async def make(self) -> bytes:
        began = asyncio.get_running_loop().time()
        self.under_way += 1
        assert self.under_way == 1
        await asyncio.sleep(self.seconds)
        self.under_way -= 1
        self.spans.append((began, asyncio.get_running_loop().time()))
        return str(len(self.spans)).encode()


async def test_callers_that_come_while_one_is_made_share_the_one_that_begins_after_they_came(
    clock: MovedClock,
) -> None:
    counted = Counted(0.05)
    shared = SharedExposition(counted.make)
    first = asyncio.create_task(shared.get())
    await asyncio.sleep(0.01)
    meanwhile = [asyncio.create_task(shared.get()) for _ in range(20)]
    came = asyncio.get_running_loop().time()
    assert await first == b"1"
    assert {await task for task in meanwhile} == {b"2"}
    assert counted.spans[1][0] >= came
    assert len(counted.spans) == 2


@pytest.mark.parametrize(("seconds", "least"), [(0.01, 0.19), (0.2, 0.15)])
async def test_a_client_that_asks_all_the_time_gets_a_fifth_of_the_time_and_waits_a_second_at_most(
    seconds: float, least: float, clock: MovedClock
) -> None:
    counted = Counted(seconds)
    shared = SharedExposition(counted.make)

    async def ask() -> None:
        while asyncio.get_running_loop().time() < end:
            await shared.get()

    began = asyncio.get_running_loop().time()
    end = began + 60
    await asyncio.gather(*(ask() for _ in range(4)))
    took = sum(to - since for since, to in counted.spans)
    assert least <= took / (counted.spans[-1][1] - began) <= 0.21
    pauses = [after - to for (_, to), (after, _) in zip(counted.spans, counted.spans[1:], strict=False)]
    assert max(pauses) <= 1.001


async def test_a_client_that_leaves_takes_the_exposition_from_no_other(clock: MovedClock) -> None:
    shared = SharedExposition(Counted(0.05).make)
    leaves, stays = asyncio.create_task(shared.get()), asyncio.create_task(shared.get())
    await asyncio.sleep(0.01)
    leaves.cancel()
    assert await stays == b"1"


async def test_a_failed_exposition_fails_for_those_who_share_it_and_the_next_one_works(
    clock: MovedClock,
) -> None:
    failures = [OSError("gone")]

    async def make() -> bytes:
        await asyncio.sleep(0.01)
        if failures:
            raise failures.pop()
        return b"there"

    shared = SharedExposition(make)
    results = await asyncio.gather(shared.get(), shared.get(), return_exceptions=True)
    assert [type(result) for result in results] == [OSError, OSError]
    assert await shared.get() == b"there"
