"""Events in Redis: what its memory, its restarts, its retention and foreign values do to them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from redis_process import RedisServer, start_redis

from service.stores.base import StoreError, owner_of
from service.stores.events import MAX_EVENTS_PER_USER, Appended, Event, StoreFullError
from service.stores.redis import RedisConnection
from service.stores.redis_server.events import RedisEvents

Opener = Callable[..., RedisEvents]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = start_redis(tmp_path_factory.mktemp("redis"), "--appendonly", "yes", "--appendfsync", "always")
    yield server
    server.stop()


@pytest.fixture
async def connection(server: RedisServer) -> AsyncIterator[RedisConnection]:
    connection = RedisConnection(server.url, timeout=10)
    await connection.client.config_set("maxmemory", 0)
    await connection.client.flushall()
    yield connection
    await connection.close()


@pytest.fixture
def opened(connection: RedisConnection) -> Opener:
    def opened(dataset: str = "toys", **options: Any) -> RedisEvents:
        return RedisEvents(connection, dataset, **{"max_users": 100, "max_bytes": 10**10} | options)

    return opened


def event(item_id: str, timestamp: int = 1, user_id: str = "u", event_id: str | None = None) -> Event:
    return Event(user_id, item_id, timestamp, event_id)


async def test_events_are_in_the_order_of_their_times_and_then_of_their_arrival(opened: Opener) -> None:
    events = opened()
    batch = [event("c", 9), event("b", 5), event("10", 7), event("9", 7), event("ü:1:", 7, event_id=":2:x")]
    assert await events.append(batch) == Appended(5)
    await events.append([event("1", 7), event("a", -2), event("z", -1)])
    assert await events.get("u") == ["a", "z", "b", "10", "9", "ü:1:", "1", "c"]


async def test_a_repeat_is_known_by_its_id_or_else_by_item_and_time(opened: Opener) -> None:
    events = opened()
    assert await events.append([event("a", 1), event("a", 1), event("a", 2)]) == Appended(2, repeated=1)
    named = [event("b", 3, event_id="e"), event("c", 4, event_id="e"), event("b", 3, event_id="f")]
    assert await events.append(named) == Appended(2, repeated=1)
    assert await events.append([event("a", 1, event_id="e"), event("b", 3), event("b", 3, "v")]) == Appended(
        2, repeated=1
    )
    assert await events.get("u") == ["a", "a", "b", "b", "b"]


async def test_the_newest_are_kept_and_a_dropped_event_leaves_nothing(opened: Opener) -> None:
    events = opened()
    batch = [event(str(number), number, event_id=f"id {number}") for number in range(MAX_EVENTS_PER_USER + 5)]
    assert await events.append(batch) == Appended(len(batch), dropped=5)
    assert (await events.get("u"))[0] == "5"
    assert await events.append([event("late", 0)]) == Appended(1, dropped=1)
    client, user = events._connection.client, events._user_keys("u")
    assert await client.zcard(user[0]) == await client.scard(user[1]) == MAX_EVENTS_PER_USER


async def test_new_users_are_refused_at_the_cap_and_nothing_of_their_batch_is_stored(opened: Opener) -> None:
    events = opened(max_users=2)
    await events.append([event("a", user_id="u"), event("a", user_id="v")])
    with pytest.raises(StoreFullError, match="2 users"):
        await events.append([event("b", user_id="u"), event("b", user_id="w")])
    assert [await events.get(user) for user in "uvw"] == [["a"], ["a"], []]
    await events.append([event("b", 2, user_id="u")])
    await events.forget("v")
    await events.append([event("b", user_id="w")])
    assert (await events.usage()).users == 2


async def test_new_users_are_refused_while_the_server_is_nearly_out_of_memory(
    opened: Opener, connection: RedisConnection
) -> None:
    events = opened()
    await events.append([event("a")])
    used, _ = await connection.memory()
    await connection.client.config_set("maxmemory", int(used * 1.05))
    events._measured_at = float("-inf")
    with pytest.raises(StoreFullError, match="nearly out of memory"):
        await events.append([event("a", user_id="v")])
    await events.append([event("b", 2)])
    assert await events.get("u") == ["a", "b"]


async def test_a_server_out_of_memory_stores_nothing_of_a_batch_and_still_forgets(
    opened: Opener, connection: RedisConnection
) -> None:
    events = opened()
    await events.append([event("a"), event("a", user_id="v")])
    await connection.client.config_set("maxmemory", 1)
    with pytest.raises(StoreFullError):
        await events.append([event("b", 2), event("b", 2, user_id="v")])
    assert await events.trouble() == "out of memory: it cannot write"
    assert [await events.get(user) for user in "uv"] == [["a"], ["a"]]
    assert await events.forget("u")
    assert await events.get("u") == []


async def test_a_cap_of_bytes_is_one_on_the_servers_memory(opened: Opener) -> None:
    with pytest.raises(StoreFullError):
        await opened(max_bytes=1).append([event("a")])


async def test_two_data_sets_share_a_server_without_seeing_each_other(opened: Opener) -> None:
    toys, books = opened("toys"), opened("books } é")
    await toys.append([event("a")])
    await books.append([event("b")])
    await toys.forget("u")
    assert [await toys.get("u"), await books.get("u")] == [[], ["b"]]


async def test_events_older_than_the_retention_go_and_undated_ones_stay(opened: Opener) -> None:
    now = int(time.time())
    batch = [event("old", now - 1_000), event("new", now), event("undated", -1)]
    await opened().append([*batch, event("old", 5, "v")])
    events = opened(retention=500)
    assert await events.get("u") == ["undated", "new"]
    assert await events.append([event("late", now - 2_000)]) == Appended(1, dropped=2)
    assert await events.drop_expired() == 1
    assert await opened().get("u") == ["undated", "new"]
    assert await opened().get("v") == []
    assert (await events.usage()).users == 1
    assert await events.drop_expired() == 0


async def test_a_key_of_another_program_keeps_no_other_user_s_old_events(
    opened: Opener, connection: RedisConnection
) -> None:
    await opened().append([event("old", 4, "foreign"), event("old", 5, "mine")])
    for key in opened()._user_keys("foreign"):
        await connection.client.set(key, "a string")
    events = opened(retention=500)
    assert await events.drop_expired() == 1
    assert await events.get("mine") == []
    assert await events.drop_expired() == 0


async def test_values_that_the_store_did_not_write_are_left_out_and_counted(
    opened: Opener, connection: RedisConnection
) -> None:
    unreadable: list[int] = []
    events = opened(unreadable=unreadable.append)
    await events.append([event("a")])
    key = events._user_keys("u")[0]
    for junk in ("junk", b"\xff", "1:99:a", "x:y:z", b"1:1:\xff"):
        await connection.client.zadd(key, {junk: 3})
    await connection.client.set(events._user_keys("v")[0], "a string")
    assert [await events.get(user) for user in "uv"] == [["a"], []]
    assert sum(unreadable) == 6
    assert await events.append([event("b", user_id="v")]) == Appended(1)  # the string is set aside
    assert await events.get("v") == ["b"]
    assert await events.forget("v")


async def test_every_acknowledged_event_survives_the_servers_death(
    opened: Opener, server: RedisServer, connection: RedisConnection
) -> None:
    events = opened()
    await events.append([event(str(number), number) for number in range(100)])
    server.stop()
    with pytest.raises(StoreError):
        await events.append([event("lost", 200)])
    server.start()
    while True:
        try:
            kept = await events.get("u")
            break
        except StoreError:  # until it is asked again
            await asyncio.sleep(0.05)
    assert kept == [str(number) for number in range(100)]


async def test_other_workers_learn_who_was_forgotten_but_not_by_name(opened: Opener) -> None:
    events = opened()
    await events.append([event("a", user_id="Jane Doe")])
    assert await events.forgotten_since(0) == (0, [])
    assert await events.forget("Jane Doe")
    assert not await events.forget("unknown")
    newest, owners = await events.forgotten_since(0)
    assert owners == [owner_of("Jane Doe"), owner_of("unknown")]
    assert await events.forgotten_since(newest) == (newest, [])
    keys = await events._connection.client.keys("*")
    assert sorted(key.rpartition(b":")[2] for key in keys) == [b"arrivals", b"forgotten"]


async def test_batches_of_many_clients_at_once_are_each_whole(opened: Opener) -> None:
    events = opened()

    async def send(number: int) -> Appended:
        return await events.append([event(f"{number}.{i}", i, f"u{number % 3}") for i in range(20)])

    assert sum([each.stored for each in await asyncio.gather(*map(send, range(30)))]) == 600
    assert [len(await events.get(f"u{number}")) for number in range(3)] == [200, 200, 200]
