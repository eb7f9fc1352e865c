"""Opens the stores that the settings name: in Redis, or in memory without a URL."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from service.errors import ConfigurationError
from service.settings import Settings
from service.stores.events import Events
from service.stores.forgotten import follow_forgotten
from service.stores.memory import MemoryMeters
from service.stores.worker_stores import Stores, memory_stores


async def open_stores(settings: Settings, stack: AsyncExitStack) -> Stores:
    """Opens the stores, to be closed with the stack.

    Raises:
        ConfigurationError: the Redis client does not accept the URL.
    """
    # Without a common store each worker gets an equal part of every limit.
    url, share = settings.redis_url.get_secret_value(), 1 / settings.workers
    if not url:
        return memory_stores(settings.memory_cache_bytes, share)
    # Slow to load, and needed with Redis alone.
    from service.stores.redis import (
        RedisCache,
        RedisConnection,
        RedisLeases,
        RedisMeters,
    )
    from service.stores.redis_client_rates import RedisRates
    from service.stores.redis_server.events_takeover import OldEventLists

    try:
        connection = RedisConnection(url, settings.redis_timeout_ms / 1000)
    except ValueError:  # its text may quote a part of the password
        raise ConfigurationError("MSR_REDIS_URL: Redis' client cannot use it") from None
    stack.push_async_callback(connection.close)
    cache, leases = RedisCache(connection), RedisLeases(connection)
    await connection.trouble()  # a server that is down, or cannot write, is logged before the first request
    return Stores(
        cache,
        RedisMeters(connection),
        MemoryMeters(share),  # for while Redis is down: then the workers cannot see each other's calls
        leases=leases,
        shared=True,
        rates=RedisRates(connection),
        probe=connection.trouble,
        old_events=OldEventLists(connection, leases, cache),
    )


def follow_events(settings: Settings, events: Events, stores: Stores, stack: AsyncExitStack) -> None:
    """Starts what this worker does beside its requests for the events, to be stopped with the stack.

    That is taking over the events of earlier versions, and forgetting the users whom other workers forget.
    """
    tasks = []
    if stores.old_events is not None:
        from service.stores.redis_server.events_takeover import take_over_in_background

        tasks.append(take_over_in_background(stores.old_events, events))
    if not stores.shared and (settings.workers > 1 or settings.events_url.get_secret_value()):
        tasks.append(follow_forgotten(events, stores.cache))
    for task in [asyncio.create_task(each) for each in tasks]:
        stack.callback(task.cancel)
