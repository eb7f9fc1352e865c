"""Tests the counts of what clients took, in memory and in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis_process import RedisServer

from service.stores import client_rates
from service.stores.base import StoreError
from service.stores.client_rates import WINDOW, MemoryRates
from service.stores.redis import RedisConnection
from service.stores.redis_client_rates import RedisRates


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def connection(redis_server: RedisServer) -> AsyncIterator[RedisConnection]:
    connection = RedisConnection(redis_server.url, timeout=30)
    yield connection
    await connection.close()


def test_a_count_of_a_minute_ago_is_forgotten_bit_by_bit() -> None:
    clock = Clock()
    rates = MemoryRates(clock)
    rates.add("a", 10)
    clock.now += WINDOW + 30  # half of that minute is still in the window
    assert rates.can_take("a", 10, 5)
    assert not rates.can_take("a", 10, 6)
    clock.now += 30
    assert rates.can_take("a", 10, 10)


@given(
    steps=st.lists(st.tuples(st.floats(0, 90), st.integers(1, 30)), min_size=1, max_size=8),
    limit=st.integers(1, 40),
)
def test_after_the_wait_there_is_room_for_one_and_before_it_there_is_none(
    steps: list[tuple[float, int]], limit: int
) -> None:
    clock = Clock()
    rates = MemoryRates(clock)
    for seconds, amount in steps:
        clock.now += seconds
        if rates.can_take("a", limit, amount):
            rates.add("a", amount)
    wait = rates.wait("a", limit)
    assert (wait == 0) == rates.can_take("a", limit, 1)
    if wait > 0.02:
        clock.now += wait - 0.01
        assert not rates.can_take("a", limit, 1)
        clock.now += 0.02
        assert rates.can_take("a", limit, 1)


def test_the_client_that_was_silent_longest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_rates, "MAX_CLIENTS", 2)
    rates = MemoryRates(Clock())
    for client in ("a", "b", "a", "c"):
        rates.add(client, 1)
    assert not rates.can_take("a", 2, 1)
    assert rates.can_take("b", 1, 1)


async def test_a_crowd_takes_exactly_the_limit_from_redis(connection: RedisConnection) -> None:
    rates = RedisRates(connection)
    taken = await asyncio.gather(*(rates.take("a", 10, 1) for _ in range(30)))
    assert taken.count(True) == 10
    assert await rates.take("b", 10, 10)
    assert 0 < await rates.wait("a", 10) <= WINDOW
    assert await rates.wait("new", 10) == 0


async def test_what_redis_counts_is_gone_after_two_minutes(connection: RedisConnection) -> None:
    await RedisRates(connection).take("a", 10, 1)
    keys = await connection.client.keys("*")
    assert [key.startswith(b"msr:rate") for key in keys] == [True]
    assert 0 < await connection.client.pttl(keys[0]) <= 2_000 * WINDOW


async def test_a_redis_that_is_down_is_a_store_error() -> None:
    connection = RedisConnection("redis://127.0.0.1:1/0", timeout=0.5)
    with pytest.raises(StoreError):
        await RedisRates(connection).take("a", 10, 1)
    await connection.close()
