"""A forgotten user is forgotten by every worker, and by the stores that are up."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest
from controlled_provider import eventually
from lvlm_parts import BrokenCache
from moved_clock import MovedClock

from service.stores import sqlite_statements
from service.stores.base import StoreError, owner_of
from service.stores.forgotten import follow_forgotten, forget_user
from service.stores.memory import MemoryCache
from service.stores.sqlite_file import VERSION_1
from service.stores.worker_stores import Stores


class Forgetting:
    """A store of events that notes whom it was told to forget."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []
        self.down = False

    async def forget(self, user_id: str) -> bool:
        if self.down:
            raise StoreError("down")
        self.forgotten.append(user_id)
        return False

    async def forgotten_since(self, number: int) -> tuple[int, list[str]]:
        if self.down:
            raise StoreError("down")
        next_ones = self.forgotten[number : number + 2]
        return number + len(next_ones), [owner_of(user_id) for user_id in next_ones]


@pytest.fixture
def events() -> Any:
    return Forgetting()


async def cached(*users: str) -> MemoryCache:
    cache = MemoryCache(1_000)
    for user in users:
        await cache.set(user, b"1", ttl=60, owner=owner_of(user))
    return cache


async def test_events_and_cached_answers_go_together(events: Any) -> None:
    stores = Stores.in_memory(await cached("u", "v"))
    assert await forget_user("u", events, stores)
    assert not await forget_user("unknown", events, stores)
    assert await stores.cache.get_many(["u", "v"]) == [None, b"1"]


async def test_a_store_that_is_down_does_not_keep_the_others_from_forgetting(events: Any) -> None:
    stores = Stores.in_memory(BrokenCache())
    with pytest.raises(StoreError):
        await forget_user("u", events, stores)
    assert events.forgotten == ["u"]
    events.down, stores = True, Stores.in_memory(await cached("u"))
    with pytest.raises(StoreError):
        await forget_user("u", events, stores)
    assert await stores.cache.get("u") is None


@pytest.mark.usefixtures("clock")
async def test_another_workers_cache_forgets_within_seconds_also_after_an_outage(events: Any) -> None:
    cache = await cached("u", "v", "w")
    following = asyncio.create_task(follow_forgotten(events, cache))
    await events.forget("u")
    await asyncio.sleep(1.5)
    assert await cache.get_many(["u", "v"]) == [None, b"1"]
    events.down = True
    await asyncio.sleep(5)
    events.down = False
    await events.forget("v")
    await eventually(lambda: len(cache._entries) == 1)
    following.cancel()


@pytest.mark.usefixtures("clock")
async def test_many_who_were_forgotten_are_read_in_parts_without_a_wait_between_them(events: Any) -> None:
    users = [str(number) for number in range(9)]
    cache = await cached(*users)
    events.forgotten = users
    following = asyncio.create_task(follow_forgotten(events, cache))
    await asyncio.sleep(0.5)
    assert not cache._entries
    following.cancel()


def steps_to_forget(records: int) -> int:
    """Returns the hundreds of steps that SQLite takes to forget a user when so many are on record."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statement in VERSION_1:
            connection.execute(statement)
        now = int(time.time())
        rows = [("0" * 32, now)] * records
        connection.executemany("INSERT INTO forgotten (owner, at) VALUES (?, ?)", rows)
        steps = itertools.count()
        connection.set_progress_handler(lambda: next(steps) and 0, 100)
        sqlite_statements.forget(connection, "u")
        return next(steps)


def test_to_forget_one_user_takes_no_longer_the_more_were_forgotten() -> None:
    assert steps_to_forget(3_000) <= steps_to_forget(3) + 1


def test_a_record_of_a_forgotten_user_goes_after_an_hour(clock: MovedClock) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statement in VERSION_1:
            connection.execute(statement)
        sqlite_statements.forget(connection, "u")
        clock.move(3_601)
        sqlite_statements.forget(connection, "v")
        assert sqlite_statements.forgotten_since(connection, 0) == (2, [owner_of("v")])
