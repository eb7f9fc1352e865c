"""A forgotten user is forgotten by every worker, and by the stores that are up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from controlled_provider import eventually
from lvlm_parts import BrokenCache

from service.stores.base import StoreError, owner_of
from service.stores.forgotten import follow_forgotten, forget_user
from service.stores.memory import MemoryCache
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
        return len(self.forgotten), [owner_of(user_id) for user_id in self.forgotten[number:]]


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
