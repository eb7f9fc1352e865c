"""Groups the stores of one worker process, in memory or in Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.stores.base import Cache, Leases, Meters
from service.stores.client_rates import Rates
from service.stores.memory import MemoryCache, MemoryMeters

if TYPE_CHECKING:
    from service.stores.redis_server.events_takeover import OldEventLists  # loads the client of Redis


@dataclass(frozen=True)
class Stores:
    """The stores of one worker process.

    Attributes:
        cache: cache of answers and captions.
        meters: meters that all workers share, or those of this process without a common store.
        local_meters: meters of this process with its share of every limit, for when the shared ones fail.
        leases: leases that workers share; None without a common store.
        shared: whether other workers use the same stores.
        rates: counts of clients that workers share; None without a common store.
        probe: function that returns what keeps the common store from storing; None without a common store.
        old_events: events that an earlier version kept in the common store; None without one.
    """

    cache: Cache
    meters: Meters
    local_meters: MemoryMeters
    leases: Leases | None
    shared: bool
    rates: Rates | None = None
    probe: Callable[[], Awaitable[str | None]] | None = None
    old_events: OldEventLists | None = None

    @classmethod
    def in_memory(
        cls, cache: Cache, meters: MemoryMeters | None = None, leases: Leases | None = None
    ) -> Stores:
        """Returns the stores of a process without a common store; new ones in memory where none is given."""
        meters = meters or MemoryMeters()
        return cls(cache, meters, meters, leases=leases, shared=False)

    async def trouble(self) -> str | None:
        """Returns what keeps the stores from storing, as a clause; None if nothing does."""
        return None if self.probe is None else await self.probe()


def memory_stores(cache_bytes: int, share: float = 1.0) -> Stores:
    """Returns stores in memory.

    Args:
        cache_bytes: bytes that the cache's values may take.
        share: part of every limit that this process may use, from 0 to 1.
    """
    return Stores.in_memory(MemoryCache(cache_bytes), MemoryMeters(share))
