"""Leases on answers: of the workers that want the same, one makes the call, and the others read the cache."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from service.stores.base import Leases, StoreError

T = TypeVar("T")

LEASE = 6.0
"""Seconds after which the work of a worker that was killed may be taken over; a living one renews in time."""

FIRST_LOOK, LAST_LOOK = 0.02, 0.1
"""Seconds between looks into the cache: short at first, then longer by half each time."""


class WorkLease:
    """Keeps workers that share a store from making the same call twice.

    Args:
        leases: leases of the shared store; None for a single process, which has no other to wait for.
    """

    def __init__(self, leases: Leases | None) -> None:
        self._leases = leases

    @asynccontextmanager
    async def claim(
        self, key: str, look: Callable[[], Awaitable[T | None]], waited_for: Callable[[], bool]
    ) -> AsyncIterator[T | None]:
        """Holds the lease on a key, or waits for the result of the worker that holds it.

        Args:
            key: key of the work.
            look: finds its result in the shared cache.
            waited_for: tells whether it still makes sense to wait.

        Yields:
            The result if another worker has brought it; else None, and inside the context the work is ours.

        Raises:
            TimeoutError: another worker holds the lease, and it makes no more sense to wait.
        """
        if self._leases is None:
            yield None
            return
        # A new owner for each claim: a claim must not renew the lease of an earlier one of the same worker.
        owner = uuid.uuid4().hex
        found = await self._wait(self._leases, key, owner, look, waited_for)
        if found is not None:
            yield found
            return
        renewing = asyncio.create_task(self._renew(self._leases, key, owner))
        try:
            yield None
        finally:
            renewing.cancel()
            with suppress(StoreError):
                await self._leases.release(key, owner)

    async def _wait(
        self,
        leases: Leases,
        key: str,
        owner: str,
        look: Callable[[], Awaitable[T | None]],
        waited_for: Callable[[], bool],
    ) -> T | None:
        pause = FIRST_LOOK
        while True:
            try:
                ours = await leases.take(key, owner, LEASE)
            except StoreError:  # without the store each worker makes its own calls
                return None
            # Looked for also when it is ours: the worker that held it may have finished just now.
            found = await look()
            if found is not None and ours:
                with suppress(StoreError):
                    await leases.release(key, owner)
            if found is not None or ours:
                return found
            if not waited_for():
                raise TimeoutError
            await asyncio.sleep(pause)
            pause = min(LAST_LOOK, 1.5 * pause)

    async def _renew(self, leases: Leases, key: str, owner: str) -> None:
        while True:
            # Two renewals may fail before the lease ends.
            await asyncio.sleep(LEASE / 3)
            with suppress(StoreError):
                await leases.take(key, owner, LEASE)
