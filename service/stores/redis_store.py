"""Stores in Redis, shared by all workers. The one home of the ``redis`` package.

Redis is allowed to be away: every operation has a short timeout, and after a failure the next ones fail at
once for a moment instead of waiting again, so that a dead server costs one timeout and not one per request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from service.stores.base import StoreError
from service.stores.memory import MAX_EVENTS_PER_USER

T = TypeVar("T")

CONNECTIONS = 100

PAUSE_AFTER_FAILURE = 1.0
"""Seconds for which a server that failed is not asked again."""


class RedisConnection:
    """One connection pool and the memory of whether the server answered last time."""

    def __init__(self, url: str, timeout: float) -> None:
        """Connect lazily.

        Args:
            url: ``redis://``, ``rediss://`` or ``unix://``; may hold a password, so it is never shown.
            timeout: seconds for connecting and for each answer.

        Raises:
            ValueError: the URL is not one that Redis clients know.
        """
        # Blocking: a burst waits its turn for a connection instead of looking like a dead server.
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=timeout,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=30,
        )
        self._redis = Redis.from_pool(pool)
        self._timeout = timeout
        self._down_until = 0.0

    @property
    def client(self) -> Redis:
        """The client; use it inside ``ask``."""
        return self._redis

    async def ask(self, answer: Awaitable[T]) -> T:
        """Await one operation under the timeout.

        Raises:
            StoreError: the server is down, slow or refused.
        """
        if time.monotonic() < self._down_until:
            cast(Any, answer).close()
            raise StoreError("Redis failed a moment ago and is not asked again yet")
        try:
            async with asyncio.timeout(self._timeout):
                return await answer
        except (RedisError, OSError, TimeoutError) as error:
            if not isinstance(error, ResponseError):  # a refused command is no dead server
                self._down_until = time.monotonic() + PAUSE_AFTER_FAILURE
            raise StoreError(f"Redis failed: {type(error).__name__}") from None

    async def close(self) -> None:
        """Close the pool."""
        await self._redis.aclose()


class RedisCache:
    """A cache under ``<prefix>:<key>``; every key has a time to live."""

    def __init__(self, connection: RedisConnection, prefix: str = "msr") -> None:
        self._connection = connection
        self._prefix = prefix

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None when there is none or it has expired.

        Raises:
            StoreError: the store is down.
        """
        return await self._connection.ask(self._get(key))

    async def _get(self, key: str) -> bytes | None:
        return cast("bytes | None", await self._connection.client.get(f"{self._prefix}:{key}"))

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Like ``get`` for several keys in one round trip, in order.

        Raises:
            StoreError: the store is down.
        """
        if not keys:
            return []
        return await self._connection.ask(self._get_many(keys))

    async def _get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        found = await self._connection.client.mget([f"{self._prefix}:{key}" for key in keys])
        return cast("list[bytes | None]", found)

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        """Keep the value for ``ttl`` seconds, replacing an earlier one.

        Raises:
            StoreError: the store is down.
            ValueError: the time to live is not positive.
        """
        if ttl <= 0:
            raise ValueError(f"a time to live is positive, not {ttl}")
        await self._connection.ask(self._set(key, value, ttl))

    async def _set(self, key: str, value: bytes, ttl: float) -> None:
        await self._connection.client.set(f"{self._prefix}:{key}", value, px=max(1, int(ttl * 1000)))


class RedisEvents:
    """Events in one Redis list per user, kept for ``ttl`` seconds after the last one."""

    def __init__(self, connection: RedisConnection, ttl: float, prefix: str = "msr:events") -> None:
        self._connection = connection
        self._ttl = ttl
        self._prefix = prefix

    async def append(self, item_ids: Mapping[str, Sequence[str]]) -> None:
        """Add items to the end of each user's list, in one transaction.

        Raises:
            StoreError: the store is down; nothing was added.
        """
        await self._connection.ask(self._append(item_ids))

    async def _append(self, item_ids: Mapping[str, Sequence[str]]) -> None:
        async with self._connection.client.pipeline(transaction=True) as pipeline:
            for user_id, added in item_ids.items():
                key = f"{self._prefix}:{user_id}"
                pipeline.rpush(key, *added)
                pipeline.ltrim(key, -MAX_EVENTS_PER_USER, -1)
                pipeline.pexpire(key, int(self._ttl * 1000))
            await pipeline.execute()

    async def get(self, user_id: str) -> list[str]:
        """The user's items, oldest first; empty for an unknown user.

        Raises:
            StoreError: the store is down.
        """
        return await self._connection.ask(self._get(user_id))

    async def _get(self, user_id: str) -> list[str]:
        found = await cast(
            "Awaitable[list[bytes]]", self._connection.client.lrange(f"{self._prefix}:{user_id}", 0, -1)
        )
        return [item_id.decode() for item_id in found]
