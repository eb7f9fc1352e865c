"""The stores of one worker process, whichever kind they are."""

from __future__ import annotations

from dataclasses import dataclass

from service.stores.base import Cache, Events, Leases, Meters, StoreError
from service.stores.memory import MemoryCache, MemoryEvents, MemoryMeters


@dataclass(frozen=True)
class Stores:
    """Where answers, captions and events are kept, and limits watched.

    Attributes:
        cache: answers and captions, each for a limited time.
        events: what users took since the bundle was made.
        meters: meters of all workers, as far as they share a store.
        local_meters: meters of this process, which has its part of every limit.
        leases: leases that workers share; None for a worker that shares nothing.
        shared: whether other workers see the same.
    """

    cache: Cache
    events: Events
    meters: Meters
    local_meters: MemoryMeters
    leases: Leases | None
    shared: bool

    @classmethod
    def in_memory(
        cls, cache: Cache, meters: MemoryMeters | None = None, leases: Leases | None = None
    ) -> Stores:
        """Returns the stores of a process by itself, with fresh memory for all that is not given."""
        meters = meters or MemoryMeters()
        return cls(cache, MemoryEvents(), meters, meters, leases=leases, shared=False)

    async def ping(self) -> bool:
        """Returns whether the stores answer; those in memory always do."""
        try:
            await self.cache.get("health")
        except StoreError:
            return False
        return True


def memory_stores(cache_bytes: int, share: float = 1.0) -> Stores:
    """Returns stores in memory.

    Args:
        cache_bytes: bytes that the cache's values may take.
        share: this process's part of every limit, from 0 to 1.
    """
    return Stores.in_memory(MemoryCache(cache_bytes), MemoryMeters(share))
