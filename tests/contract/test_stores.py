"""The contract of caches; Redis is a real one on a real socket."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from controlled_provider import eventually
from moved_clock import MovedClock
from redis_process import RedisServer

from service.stores import memory
from service.stores.base import FORGOTTEN_SECONDS, Cache, StoreError, owner_of
from service.stores.memory import MemoryCache
from service.stores.redis import RedisCache, RedisConnection

USER, OTHER = owner_of("a user"), owner_of("another user")


@pytest.fixture(params=["memory", "redis"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    if request.param == "memory":
        yield MemoryCache(max_bytes=1_000_000)
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    connection = RedisConnection(server.url, timeout=5)
    yield RedisCache(connection)
    await connection.close()


async def test_a_cache_gives_back_what_it_was_given(cache: Cache) -> None:
    assert await cache.get("a") is None
    await cache.set("a", b"\x00\xff", ttl=60)
    await cache.set("b", b"", ttl=60)
    assert await cache.get("a") == b"\x00\xff"
    assert await cache.get_many(["b", "none", "a"]) == [b"", None, b"\x00\xff"]
    assert await cache.get_many([]) == []


@pytest.mark.clock
async def test_a_cached_value_expires(cache: Cache) -> None:
    await cache.set("a", b"1", ttl=0.05)
    await asyncio.sleep(0.1)
    assert await cache.get("a") is None


async def test_a_later_value_replaces_an_earlier_one(cache: Cache) -> None:
    await cache.set("a", b"1", ttl=60)
    await cache.set("a", b"2", ttl=60)
    assert await cache.get("a") == b"2"


@pytest.mark.parametrize("ttl", [0, -1])
async def test_a_key_without_a_time_to_live_is_refused(cache: Cache, ttl: float) -> None:
    with pytest.raises(ValueError, match="time to live"):
        await cache.set("a", b"1", ttl=ttl)


async def test_a_burst_of_operations_waits_its_turn(cache: Cache) -> None:
    await cache.set("a", b"1", ttl=60)
    assert await asyncio.gather(*(cache.get("a") for _ in range(300))) == [b"1"] * 300


async def test_a_forgotten_user_takes_their_values_along_and_no_others(cache: Cache) -> None:
    for key, owner in (("a", USER), ("b", USER), ("c", OTHER), ("d", None)):
        await cache.set(key, key.encode(), ttl=60, owner=owner)
    assert [await cache.get(key) for key in "abcd"] == [b"a", b"b", b"c", b"d"]
    assert await cache.forget(USER) == 2
    assert [await cache.get(key) for key in "abcd"] == [None, None, b"c", b"d"]
    assert await cache.forget(USER) == 0


async def test_a_call_under_way_brings_nothing_of_a_forgotten_user_back(cache: Cache) -> None:
    await cache.forget(USER)
    await cache.set("a", b"1", ttl=60, owner=USER)
    await cache.set("b", b"1", ttl=60, owner=OTHER)
    assert [await cache.get("a"), await cache.get("b")] == [None, b"1"]


async def test_a_replaced_value_belongs_to_the_user_of_the_new_one(cache: Cache) -> None:
    await cache.set("a", b"1", ttl=60, owner=USER)
    await cache.set("a", b"2", ttl=60, owner=OTHER)
    assert await cache.get("a") == b"2"
    await cache.forget(OTHER)
    assert await cache.get("a") is None


async def test_a_user_who_was_forgotten_long_ago_is_cached_again(clock: MovedClock) -> None:
    cache = MemoryCache(max_bytes=1_000)
    await cache.forget(USER)
    clock.move(FORGOTTEN_SECONDS + 1)
    await cache.set("a", b"1", ttl=60, owner=USER)
    assert await cache.get("a") == b"1"


async def test_a_memory_cache_remembers_so_many_forgotten_users_the_last_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "MOST_FORGOTTEN", 2)
    cache = MemoryCache(max_bytes=1_000)
    for name in ("u", "v", "w", "u"):
        await cache.forget(name)
    for name in "uvw":
        await cache.set(name, b"1", ttl=60, owner=name)
    assert await cache.get_many(["u", "v", "w"]) == [None, b"1", None]


async def test_a_memory_cache_keeps_no_owner_without_values() -> None:
    cache = MemoryCache(max_bytes=10)
    for number in range(50):
        await cache.set(str(number), b"12345", ttl=60, owner=owner_of(str(number)))
    assert len(cache._owned) == 2


async def test_a_value_whose_owners_list_redis_evicted_is_a_miss(redis_server: RedisServer) -> None:
    connection = RedisConnection(redis_server.url, timeout=5)
    cache = RedisCache(connection)
    await cache.set("a", b"1", ttl=60, owner=USER)
    await connection.client.delete(f"msr:owner:{USER}")
    assert await cache.get("a") is None
    await connection.close()


async def test_an_owners_list_in_redis_drops_keys_that_have_expired(redis_server: RedisServer) -> None:
    connection = RedisConnection(redis_server.url, timeout=5)
    cache = RedisCache(connection)
    await cache.set("a", b"1", ttl=0.001, owner=USER)

    async def expired() -> bool:
        await cache.set("b", b"1", ttl=60, owner=USER)
        return bool(await connection.client.zrange(f"msr:owner:{USER}", 0, -1) == [b"msr:b"])

    await eventually(expired)
    await connection.close()


async def test_a_memory_cache_forgets_the_least_recently_used_when_full() -> None:
    cache = MemoryCache(max_bytes=10)
    await cache.set("a", b"12345", ttl=60)
    await cache.set("b", b"12345", ttl=60)
    await cache.get("a")
    await cache.set("c", b"12345", ttl=60)
    assert await cache.get_many(["a", "b", "c"]) == [b"12345", None, b"12345"]


async def test_a_value_larger_than_the_memory_cache_is_not_kept() -> None:
    cache = MemoryCache(max_bytes=4)
    await cache.set("a", b"1", ttl=60)
    await cache.set("b", b"12345", ttl=60)
    assert await cache.get_many(["a", "b"]) == [b"1", None]


@pytest.mark.clock
async def test_a_dead_redis_is_a_store_error_and_a_new_one_is_found_again(redis_server: RedisServer) -> None:
    connection = RedisConnection(redis_server.url, timeout=5)
    cache = RedisCache(connection)
    await cache.set("a", b"1", ttl=60)
    redis_server.stop()
    for operation in (cache.get("a"), cache.set("a", b"2", 60), cache.forget(USER)):
        with pytest.raises(StoreError):
            await operation
    redis_server.start()

    async def found() -> bool:
        try:
            return await cache.get("a") is None
        except StoreError:
            return False

    await eventually(found)
    await connection.close()


async def test_a_redis_that_never_answers_costs_one_timeout_and_not_one_per_call(clock: MovedClock) -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = RedisConnection(f"redis://127.0.0.1:{port}/0", timeout=0.2)
    cache = RedisCache(connection)
    started = clock.now()
    for _ in range(20):
        with pytest.raises(StoreError):
            await cache.get("a")
    assert clock.now() - started == pytest.approx(0.2)
    await connection.close()
    server.close()
    await server.wait_closed()


async def test_a_redis_password_is_never_in_an_error() -> None:
    connection = RedisConnection("redis://:hunter2s3cr3t@127.0.0.1:1/0", timeout=0.2)
    with pytest.raises(StoreError) as caught:
        await RedisCache(connection).get("a")
    assert "hunter2s3cr3t" not in f"{caught.value!r} {caught.value.__cause__!r}"
    await connection.close()


async def test_every_key_in_redis_has_a_time_to_live(redis_server: RedisServer) -> None:
    connection = RedisConnection(redis_server.url, timeout=5)
    cache = RedisCache(connection)
    await cache.set("a", b"1", ttl=60)
    await cache.set("b", b"1", ttl=60, owner=USER)
    await cache.forget(OTHER)
    keys = await connection.client.keys("*")
    assert len(keys) == 4
    for key in keys:
        assert 0 < await connection.client.ttl(key) <= FORGOTTEN_SECONDS
    await connection.close()
