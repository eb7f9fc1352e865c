"""Lists of item ids that earlier versions kept in the cache's Redis are taken over once, whatever dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest
from redis_process import RedisServer

from service.stores.base import StoreError, owner_of
from service.stores.events import Appended, Event, StoreFullError
from service.stores.forgotten import forget_user
from service.stores.memory import MemoryMeters
from service.stores.redis import RedisCache, RedisConnection, RedisLeases
from service.stores.redis_server import events_takeover
from service.stores.redis_server.events import RedisEvents
from service.stores.redis_server.events_takeover import OldEventLists, TakenOver, take_over_in_background
from service.stores.worker_stores import Stores


@dataclass
class Parts:
    """A cache's Redis with lists of an earlier version, and a store of events in another database of it."""

    connection: RedisConnection
    events: RedisEvents

    def lists(self) -> OldEventLists:
        """The lists as one more worker sees them."""
        connection = self.connection
        return OldEventLists(connection, RedisLeases(connection), RedisCache(connection))

    async def push(self, user: str | bytes, *items: str | bytes) -> None:
        """Adds to a list as the earlier version did."""
        key = b"msr:events:" + (user if isinstance(user, bytes) else user.encode())
        await self.connection.client.rpush(key, *items)  # type: ignore[misc, arg-type]

    async def left(self) -> list[bytes]:
        """The keys of the lists that are still there."""
        return sorted(await self.connection.client.keys("msr:events:*"))

    async def again(self) -> TakenOver | None:
        """What a worker takes over that starts much later."""
        await self.connection.client.delete("msr:events-taken-over", "msr:lease:events-takeover")
        return await self.lists().take_over(self.events)


@pytest.fixture
async def parts(redis_server: RedisServer) -> AsyncIterator[Parts]:
    connection = RedisConnection(redis_server.url, timeout=10)
    kept = RedisConnection(redis_server.url.replace("/0", "/1"), timeout=10)
    yield Parts(connection, RedisEvents(kept, "toys", max_users=100, max_bytes=10**10))
    await connection.close()
    await kept.close()


class Dying:
    """A store of events that fails after it stored some batches, as if the worker were killed then."""

    def __init__(self, events: RedisEvents, batches: int) -> None:
        self._events = events
        self._batches = batches

    async def append(self, events: Sequence[Event]) -> Appended:
        appended = await self._events.append(events)
        self._batches -= 1
        if self._batches < 0:
            raise StoreError("killed")
        return appended

    def __getattr__(self, name: str) -> object:
        return getattr(self._events, name)


async def test_lists_come_before_every_new_event_in_their_order(parts: Parts) -> None:
    await parts.push("ü:v", "a", "b", "a")
    await parts.push("w", "c")
    await parts.events.append([Event("ü:v", "new", 0)])
    assert await parts.lists().take_over(parts.events) == TakenOver(users=2, events=4)
    assert await parts.events.get("ü:v") == ["a", "b", "a", "new"]
    assert await parts.left() == []
    assert await parts.lists().take_over(parts.events) is None


async def test_a_worker_that_was_killed_is_followed_by_one_that_changes_nothing(parts: Parts) -> None:
    for user in "abc":
        await parts.push(user, "x", "x", "y")
    with pytest.raises(StoreError):
        await parts.lists().take_over(Dying(parts.events, 1))  # type: ignore[arg-type]
    assert len(await parts.left()) == 2
    await parts.push("a", "z")  # by a worker of the earlier version
    await parts.again()
    assert [(await parts.events.get(user))[:3] for user in "abc"] == [["x", "x", "y"]] * 3
    assert (await parts.events.get("a"))[3:] == ["z"]


async def test_two_workers_at_once_take_each_list_over_once(parts: Parts) -> None:
    for number in range(30):
        await parts.push(f"u{number}", "a", "b")
    taken = await asyncio.gather(*(parts.lists().take_over(parts.events) for _ in range(4)))
    assert sum(each.users for each in taken if each) == 30
    assert sum(each is not None for each in taken) == 1


async def test_what_is_no_list_of_item_ids_is_left_and_counted(parts: Parts) -> None:
    await parts.push("good", "a")
    await parts.push("half", "b", b"\xff", "c")
    await parts.push(b"\xff", "a")
    await parts.connection.client.set("msr:events:string", "a")
    for _ in range(2):
        taken = await parts.again()
        assert taken is not None
        assert taken.left == 3
        assert await parts.left() == [b"msr:events:half", b"msr:events:string", b"msr:events:\xff"]
        assert await parts.events.get("half") == ["b", "c"]


async def test_a_full_store_leaves_the_lists_of_new_users(parts: Parts) -> None:
    await parts.push("u", "a")
    parts.events._max_users = 0
    assert await parts.lists().take_over(parts.events) == TakenOver(left=1)
    assert await parts.left() == [b"msr:events:u"]
    with pytest.raises(StoreFullError):
        await parts.events.append([Event("u", "a", 1)])


async def test_a_forgotten_user_does_not_come_back_from_a_list(parts: Parts) -> None:
    stores = Stores.in_memory(RedisCache(parts.connection), MemoryMeters())
    object.__setattr__(stores, "old_events", parts.lists())
    for number in range(20):
        await parts.push(f"u{number}", "a")
    takeover = asyncio.create_task(parts.lists().take_over(parts.events))
    there = await asyncio.gather(*(forget_user(f"u{number}", parts.events, stores) for number in range(20)))
    await takeover
    assert all(there)
    await parts.again()
    assert [await parts.events.get(f"u{number}") for number in range(20)] == [[]] * 20
    assert not await forget_user("u0", parts.events, stores)


async def test_a_user_whose_list_is_held_is_not_said_to_be_forgotten(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_takeover, "PATIENCE", 0.1)
    await parts.push("u", "a")
    await RedisLeases(parts.connection).take(f"old-events:{owner_of('u')}", "another", 60)
    with pytest.raises(StoreError, match="just now"):
        await parts.lists().remove("u")


async def test_the_log_says_once_what_was_taken_over(parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
    await parts.push("u", "a", "b")
    with caplog.at_level(logging.INFO, "service"):
        for _ in range(2):
            await take_over_in_background(parts.lists(), parts.events)
    (line,) = [record.getMessage() for record in caplog.records if "earlier version" in record.getMessage()]
    assert line == "taken over from an earlier version: 2 events of 1 users; 0 lists stay where they are"


async def test_a_worker_waits_for_the_one_that_takes_the_lists_over_which_may_be_killed(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_takeover, "RETRY_SECONDS", 0.01)
    await parts.push("u", "a")
    leases = RedisLeases(parts.connection)
    await leases.take("events-takeover", "another worker", 60)
    waiting = asyncio.create_task(take_over_in_background(parts.lists(), parts.events))
    await asyncio.wait({waiting}, timeout=0.1)
    assert not waiting.done()
    await leases.release("events-takeover", "another worker")  # as it ends with a worker that was killed
    await waiting
    assert await parts.events.get("u") == ["a"]
