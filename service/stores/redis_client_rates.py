"""Counts what each client took within the last minute, in Redis, by scripts of the library ``limits``."""

from __future__ import annotations

from limits.aio.storage import RedisStorage

from service.stores.client_rates import WINDOW, seconds_until_one_more
from service.stores.redis import RedisConnection


class RedisRates:
    """Counts that all workers share; a key lives for two windows."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        # The library is handed the pool, so that connections, their limits and the breaker are ours. The URL
        # only names the kind of store.
        self._storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix="msr:rate",
            connection_pool=connection.client.connection_pool,  # type: ignore[arg-type]
        )

    async def take(self, client: str, limit: int, amount: int) -> bool:
        """Counts ``amount`` for a client, or returns False if its count would pass ``limit``.

        Raises:
            StoreError: the store is down.
        """
        counting = self._storage.acquire_sliding_window_entry(client, limit, WINDOW, amount)
        return await self._connection.ask(counting)

    async def wait(self, client: str, limit: int) -> float:
        """Returns the seconds until the client can take one more; 0 if it can now.

        Raises:
            StoreError: the store is down.
        """
        found = await self._connection.ask(self._storage.get_sliding_window(client, WINDOW))
        previous, previous_left, current, current_left = found
        # A key lives for two windows: what it has left beyond one is left of the current window.
        left = max(0.0, current_left - WINDOW)
        return seconds_until_one_more(previous, previous_left, current, left, limit)
