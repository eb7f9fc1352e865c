"""Opens the stores that the settings name: in Redis, or in memory without a URL."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack

from service.errors import ConfigurationError
from service.settings import Settings
from service.stores.memory import MemoryMeters
from service.stores.worker_stores import Stores, memory_stores

log = logging.getLogger(__name__)


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

    try:
        connection = RedisConnection(url, settings.redis_timeout_ms / 1000)
    except ValueError:  # its text may quote a part of the password
        raise ConfigurationError("MSR_REDIS_URL: Redis' client cannot use it") from None
    stack.push_async_callback(connection.close)
    stores = Stores(
        RedisCache(connection),
        RedisMeters(connection),
        MemoryMeters(share),  # for while Redis is down: then the workers cannot see each other's calls
        leases=RedisLeases(connection),
        shared=True,
        rates=RedisRates(connection),
    )
    if not await stores.ping():
        log.warning("Redis does not answer: the service starts degraded, without a common cache")
    return stores
