"""Implements the stores in Redis, shared by all workers. The only module that imports the ``redis`` package.

The service works without Redis. Every operation has a short timeout, and for ``PAUSE_AFTER_FAILURE`` seconds
after a failure all operations fail at once: a dead server costs one timeout and not one per request.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from service.outages import Outage
from service.stores.base import BURST, FORGOTTEN_SECONDS, Flow, StoreError, Sum
from service.stores.events import StoreFullError
from service.stores.redis_scripts import ADD, DRAW, FORGET_OWNER, GET_OWNED, RELEASE, SET_OWNED, TAKE
from service.stores.redis_server.failures import reason, refusal

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECTIONS = 100
"""Connections of one process; an operation beyond them waits for a free one."""

PAUSE_AFTER_FAILURE = 1.0
"""Seconds after a failure in which operations fail without being tried."""

SLOW_OPERATION = 0.05
"""Seconds from which on an operation that its caller cancelled counts as a failure of the server."""


PROBE_AGE = 1.0
"""Seconds for which a probe of the server is believed, so that health checks do not add up to a load."""

PROBE_TIMEOUT = 0.5
"""Seconds that a probe takes at most, however long operations may take: health checks have short timeouts."""

CACHE_OUTAGE = "caches miss and limits hold for this process alone"
"""What goes on without the cache's Redis, for the log."""


class WrongTypeError(StoreError):
    """A key holds a value of a type that the service did not write; the server itself is well."""


def is_accepted(url: str) -> bool:
    """Returns whether the Redis client can use a URL, as far as it can tell without connecting."""
    try:
        pool = BlockingConnectionPool.from_url(url)
        pool.connection_class(**pool.connection_kwargs)  # an object, not yet connected
    except (ValueError, TypeError, OSError, RedisError):  # OSError: a file of a certificate that is not there
        return False
    return True


class RedisConnection:
    """A connection pool behind a circuit breaker: after a failure operations fail at once for a moment."""

    def __init__(
        self,
        url: str,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        name: str = "Redis",
        outage: str = CACHE_OUTAGE,
    ) -> None:
        """Makes the pool; the first operation connects.

        Args:
            url: ``redis://``, ``rediss://`` or ``unix://``; may hold a password, so it is never shown.
            timeout: seconds for connecting and for each answer.
            clock: monotonic clock in seconds, for the log of outages.
            name: name of the server, for the log.
            outage: what the service does without it, for the log.

        Raises:
            ValueError: the Redis client does not accept the URL.
        """
        # Blocking: in a burst operations wait for a free connection instead of failing.
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=timeout,
            socket_timeout=None,  # `ask` limits the time; the client's own limit loses cancellations on 3.11
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=30,
        )
        self._redis = Redis.from_pool(pool)
        self._timeout = timeout
        self._down_until = 0.0
        self._name, self._consequence = name, outage
        self._outage = Outage(name, log, clock=clock)
        self._reason = ""  # of the latest failure
        self._trouble: str | None = None  # what the latest probe found
        self._probed_at = float("-inf")  # monotonic seconds

    @property
    def client(self) -> Redis:
        """The client; its operations are awaited through ``ask``, which has the timeout and the breaker."""
        return self._redis

    async def ask(self, answer: Awaitable[T]) -> T:
        """Awaits one operation under the timeout.

        Raises:
            WrongTypeError: a key holds a value of another type.
            StoreFullError: the server has no memory for it.
            StoreError: the server is down, slow or refused.
        """
        if time.monotonic() < self._down_until:
            cast(Any, answer).close()  # a coroutine that is never awaited would warn
            self._outage.failed("%s: %s; %s", self._name, self._reason, self._consequence)
            raise StoreError(f"{self._name} failed a moment ago and is not asked again yet: {self._reason}")
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                found = await answer
        except asyncio.CancelledError:
            # The caller's deadline came first. The operations that follow must not wait as long again.
            if time.monotonic() - began >= SLOW_OPERATION:
                self._down_until = time.monotonic() + PAUSE_AFTER_FAILURE
                self._failed("it does not answer in time")
            raise
        except (RedisError, OSError, TimeoutError) as error:
            code = refusal(error)
            if code == "WRONGTYPE":
                raise WrongTypeError("a key in Redis holds a value of another program") from None
            if not isinstance(error, ResponseError):  # a server that refuses a command is not down
                await self._open_breaker()
            self._failed(reason(error))
            kind = StoreFullError if code == "OOM" else StoreError
            raise kind(f"{self._name}: {self._reason}") from None
        self._outage.works()
        return found

    def _failed(self, why: str) -> None:
        self._reason = why
        self._probed_at = float("-inf")  # an earlier probe says nothing any more
        self._outage.failed("%s: %s; %s", self._name, why, self._consequence)

    async def trouble(self) -> str | None:
        """Returns what keeps the server from storing, as a clause; None if nothing does.

        It writes: a server may read and yet not write, as a replica or one without memory.
        """
        if time.monotonic() - self._probed_at >= PROBE_AGE:
            self._probed_at = time.monotonic()  # at once, so that checks which come together ask once
            try:
                async with asyncio.timeout(PROBE_TIMEOUT):
                    await self.ask(self._probe())
                self._trouble = None
            except (StoreError, TimeoutError):
                self._trouble = self._reason or "it does not answer in time"
        return self._trouble

    async def _probe(self) -> None:
        await self._redis.set("msr:health", b"1", px=60_000)

    async def memory(self) -> tuple[int, int]:
        """Returns the bytes that the server uses and those that it may use; zeros where it does not tell.

        Raises:
            StoreError: the server is down or slow.
        """
        found = await self.ask(self._info("memory"))
        return int(found.get("used_memory", 0)), int(found.get("maxmemory", 0))

    async def persistence(self) -> tuple[bool | None, str | None]:
        """Returns whether the server has an append-only file, and its policy of eviction; None for unknown.

        Raises:
            StoreError: the server is down or slow.
        """
        saved, memory = await self.ask(self._info("persistence")), await self.ask(self._info("memory"))
        on, policy = saved.get("aof_enabled"), memory.get("maxmemory_policy")
        return None if on is None else bool(int(on)), None if policy is None else str(policy)

    async def _info(self, section: str) -> dict[str, Any]:
        try:
            return await self._redis.info(section)
        except ResponseError as error:
            if refusal(error) == "NOPERM" or "unknown command" in str(error).lower():
                return {}  # managed servers forbid it
            raise

    async def _open_breaker(self) -> None:
        first = time.monotonic() >= self._down_until
        self._down_until = time.monotonic() + PAUSE_AFTER_FAILURE
        if first:  # a restarted server has dropped the old connections: each would fail once more
            with suppress(RedisError, OSError):
                await self._redis.connection_pool.disconnect(inuse_connections=False)

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[str | bytes]) -> Any:
        """Runs a Lua script; Redis runs no other command in between.

        Raises:
            StoreError: the server is down, slow or refused.
        """
        return await self.ask(self._run(script, keys, arguments))

    async def _run(self, script: str, keys: Sequence[str], arguments: Sequence[str | bytes]) -> Any:
        return await self._redis.eval(script, len(keys), *keys, *arguments)

    async def close(self) -> None:
        """Closes the pool."""
        await self._redis.aclose()


_OWNED = b"\0owner:"  # begins a value that has an owner, whose 32 hexadecimal digits follow


class RedisCache:
    """A cache under ``msr:<key>``; every key has a time to live.

    An owner's keys are listed under ``msr:owner:<owner>``, and a value that is not on its owner's list is a
    miss. So a list that the server evicts takes its values along: none is left that could not be forgotten.
    """

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._prefix = "msr"

    async def get(self, key: str) -> bytes | None:
        """Returns the value, or None when there is none or it has expired.

        Raises:
            StoreError: the store is down.
        """
        arguments: list[str | bytes] = [_OWNED, f"{self._prefix}:owner:"]
        value = await self._connection.run(GET_OWNED, [f"{self._prefix}:{key}"], arguments)
        return cast("bytes | None", value)

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Returns the values of several keys in their order, in one round trip; those without an owner alone.

        Raises:
            StoreError: the store is down.
        """
        if not keys:
            return []
        found = await self._connection.ask(self._get_many(keys))
        return [None if value is None or value.startswith(_OWNED) else value for value in found]

    async def _get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        found = await self._connection.client.mget([f"{self._prefix}:{key}" for key in keys])
        return cast("list[bytes | None]", found)

    async def set(self, key: str, value: bytes, ttl: float, owner: str | None = None) -> None:
        """Stores the value for ``ttl`` seconds, replacing an earlier one; see ``Cache.set`` for the owner.

        Raises:
            StoreError: the store is down.
            ValueError: the time to live is not positive.
        """
        if ttl <= 0:
            raise ValueError(f"a time to live is positive, not {ttl}")
        milliseconds = max(1, int(ttl * 1000))
        if owner is None:
            await self._connection.ask(self._set(key, value, milliseconds))
            return
        keys = [f"{self._prefix}:{key}", *self._owner_keys(owner)]
        await self._connection.run(SET_OWNED, keys, [_OWNED + owner.encode() + value, str(milliseconds)])

    async def _set(self, key: str, value: bytes, milliseconds: int) -> None:
        await self._connection.client.set(f"{self._prefix}:{key}", value, px=milliseconds)

    async def forget(self, owner: str) -> int:
        """Removes all values of an owner, and refuses new ones for ``FORGOTTEN_SECONDS``; returns how many.

        Raises:
            StoreError: the store is down.
        """
        milliseconds = str(int(FORGOTTEN_SECONDS * 1000))
        return int(await self._connection.run(FORGET_OWNER, self._owner_keys(owner), [milliseconds]))

    def _owner_keys(self, owner: str) -> list[str]:
        """Returns the keys of an owner's list, and of the mark that the owner was forgotten."""
        return [f"{self._prefix}:owner:{owner}", f"{self._prefix}:forgotten:{owner}"]


class RedisLeases:
    """Leases that all workers see; those of a killed worker end after their time to live."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._prefix = "msr:lease"

    async def take(self, key: str, holder: str, ttl: float) -> bool:
        """Gives ``holder`` the key for ``ttl`` seconds from now; returns False if the key has another holder.

        Raises:
            StoreError: the store is down.
        """
        milliseconds = str(max(1, int(ttl * 1000)))
        return bool(await self._connection.run(TAKE, [f"{self._prefix}:{key}"], [holder, milliseconds]))

    async def release(self, key: str, holder: str) -> None:
        """Gives the key back; does nothing if it belongs to another holder by now.

        Raises:
            StoreError: the store is down.
        """
        await self._connection.run(RELEASE, [f"{self._prefix}:{key}"], [holder])


_ANY_WAIT = 1e9  # seconds, more than any wait, for draws without a limit on the wait


class RedisMeters:
    """Meters that all workers share."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._prefix = "msr:meter"
        self._process = uuid.uuid4().hex  # under which this process's part of a total is stored

    async def draw(self, flows: Sequence[Flow], patience: float) -> float | None:
        """Draws all of the flows, or none; returns the seconds to wait as ``Meters.draw`` does.

        Raises:
            StoreError: the store is down.
        """
        if not flows:
            return 0.0
        wait = await self._draw(flows, patience)
        return None if wait is None else float(wait)

    async def correct(self, flows: Sequence[Flow]) -> None:
        """Draws without a limit on the wait.

        Raises:
            StoreError: the store is down.
        """
        if flows:
            await self._draw(flows, _ANY_WAIT)

    async def add(self, sums: Sequence[Sum]) -> bool:
        """Adds to all totals, or to none and returns False if one of them would pass its limit.

        Raises:
            StoreError: the store is down.
        """
        return not sums or bool(await self._add(sums, check_limits=True))

    async def settle(self, sums: Sequence[Sum]) -> None:
        """Adds to all totals, even beyond their limits.

        Raises:
            StoreError: the store is down.
        """
        if sums:
            await self._add(sums, check_limits=False)

    async def _draw(self, flows: Sequence[Flow], patience: float) -> Any:
        seconds = [f"{flow.amount * 60 / flow.per_minute:.6f}" for flow in flows]
        keys = [f"{self._prefix}:{flow.key}" for flow in flows]
        return await self._connection.run(DRAW, keys, [f"{patience:.6f}", str(BURST), *seconds])

    async def _add(self, sums: Sequence[Sum], *, check_limits: bool) -> Any:
        arguments = [
            argument
            for each in sums
            for argument in (
                f"{each.amount:.9f}",
                f"{each.limit:.9f}",
                str(max(1, int(each.ttl * 1000))),
                f"{each.own:.9f}",
            )
        ]
        keys = [f"{self._prefix}:{each.key}" for each in sums]
        return await self._connection.run(ADD, keys, [str(int(check_limits)), self._process, *arguments])
