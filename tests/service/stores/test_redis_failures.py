"""Redis that cannot store: what is said of each kind, by the health check and once in the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from controlled_provider import eventually
from redis_process import RedisServer, start_redis

from service.stores.base import StoreError
from service.stores.redis import RedisCache, RedisConnection, WrongTypeError

SECRET = "s3cr3t-hunter22"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = start_redis(tmp_path_factory.mktemp("redis"), "--requirepass", SECRET)
    yield server
    server.stop()


@pytest.fixture
async def cache(server: RedisServer) -> AsyncIterator[RedisCache]:
    connection = RedisConnection(server.url.replace("//", f"//:{SECRET}@"), timeout=10)
    client = connection.client
    yield RedisCache(connection)
    await client.execute_command("REPLICAOF", "NO", "ONE")
    for setting in ("maxmemory", "min-replicas-to-write"):
        await client.config_set(setting, 0)
    await connection.close()


async def troubles(url: str, caplog: pytest.LogCaptureFixture) -> str | None:
    """What a new connection says of its server; its log says the same, once, and nothing of the secret."""
    connection = RedisConnection(url, timeout=10)
    for _ in range(3):
        trouble = await connection.trouble()
        connection._probed_at = connection._down_until = float("-inf")
    await connection.close()
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("service")]
    assert lines == [f"Redis: {trouble}; caches miss and limits hold for this process alone"] * bool(trouble)
    assert SECRET not in f"{caplog.text}{trouble}"
    assert "127.0.0.1" not in f"{caplog.text}{trouble}"
    return trouble


@pytest.mark.parametrize(
    ("user", "database", "sentence"),
    [
        (f":{SECRET}@", "0", None),
        (f":wrong{SECRET}@", "0", "wrong user or password"),
        (f"{SECRET}:{SECRET}@", "0", "wrong user or password"),
        ("", "0", "it asks for a password"),
        (f":{SECRET}@", "99", "it has no database of that number"),
    ],
)
async def test_a_url_that_the_server_refuses_is_named(
    server: RedisServer, caplog: pytest.LogCaptureFixture, user: str, database: str, sentence: str | None
) -> None:
    url = f"redis://{user}127.0.0.1:{server.port}/{database}"
    assert await troubles(url, caplog) == sentence


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (f"redis://:{SECRET}@127.0.0.1:1", "nothing listens at its address"),
        (f"unix://:{SECRET}@/nowhere/redis.sock", "there is no socket at its path"),
        (f"redis://:{SECRET}@no-such-host.invalid", "its host name is not known"),
    ],
)
async def test_a_server_that_is_not_there_is_named(
    caplog: pytest.LogCaptureFixture, url: str, sentence: str
) -> None:
    assert await troubles(url, caplog) == sentence


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("REPLICAOF", "127.0.0.1", "1"), "read-only: it is a replica"),
        (("CONFIG", "SET", "maxmemory", "1"), "out of memory: it cannot write"),
        (
            ("CONFIG", "SET", "min-replicas-to-write", "1"),
            "too few of its replicas are there, and so it cannot write",
        ),
    ],
)
async def test_a_server_that_reads_and_cannot_write_is_named_and_read(
    server: RedisServer,
    cache: RedisCache,
    caplog: pytest.LogCaptureFixture,
    command: tuple[str, ...],
    sentence: str,
) -> None:
    await cache.set("a", b"1", ttl=60)
    await cache._connection.client.execute_command(*command)
    assert await troubles(server.url.replace("//", f"//:{SECRET}@"), caplog) == sentence
    assert await cache.get("a") == b"1"


@asynccontextmanager
async def refusing(reply: bytes) -> AsyncIterator[str]:
    """A server that answers every command with the same reply."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            writer.write(reply)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (b"-MISCONF Redis is configured to save RDB snapshots\r\n", "it cannot save to its disk"),
        (b"-CLUSTERDOWN Hash slot not served\r\n", "has slots that no node serves"),
        (b"-MOVED 3999 127.0.0.1:6381\r\n", "it is a node of a cluster"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "it is still loading its data"),
        (b"-NOPERM this user has no permissions\r\n", "has no permission"),
        (b"-MASTERDOWN Link with MASTER is down\r\n", "a replica that has lost its master"),
        (b"-ERR max number of clients reached\r\n", "it takes no more connections"),
        (b"-ERR unknown command 'SET'\r\n", "it lacks a command"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what answers is no Redis"),
    ],
)
async def test_every_refusal_is_named(caplog: pytest.LogCaptureFixture, reply: bytes, sentence: str) -> None:
    async with refusing(reply) as url:
        trouble = await troubles(url, caplog)
    assert trouble is not None
    assert sentence in trouble


async def test_a_refusal_inside_a_script_is_named_as_outside(cache: RedisCache) -> None:
    await cache._connection.client.execute_command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(StoreError, match="read-only"):
        await cache.forget("0" * 32)


async def test_a_value_of_another_type_is_no_outage(
    cache: RedisCache, caplog: pytest.LogCaptureFixture
) -> None:
    await cache._connection.client.rpush("msr:list", "x")
    with pytest.raises(WrongTypeError):
        await cache.get("list")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_checks_of_the_health_write_once_a_second_at_most(cache: RedisCache) -> None:
    connection = cache._connection

    async def calls() -> int:
        found = await connection.client.info("commandstats")
        return int(found["cmdstat_set"]["calls"]) if "cmdstat_set" in found else 0

    before = await calls()
    assert await asyncio.gather(*(connection.trouble() for _ in range(50))) == [None] * 50
    assert await calls() - before <= 1


async def test_a_server_that_can_write_again_is_well_again(server: RedisServer, cache: RedisCache) -> None:
    connection = cache._connection
    await connection.client.config_set("maxmemory", 1)
    assert await connection.trouble() == "out of memory: it cannot write"
    await connection.client.config_set("maxmemory", 0)

    async def well() -> bool:
        return await connection.trouble() is None

    await eventually(well)
