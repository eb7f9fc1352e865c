"""Leases in the shared store: of the workers that want one answer, one makes the call and the others wait.

They find the answer in the shared cache. Within a process ``singleflight`` does the same.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from service.stores.base import Leases, StoreError

T = TypeVar("T")

LEASE = 6.0
"""Seconds after which a lease ends that is not renewed, so that another worker takes over after a crash."""

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.1
"""Seconds between two reads of the cache: at first, and at most; each pause is longer by half."""


class WorkLease:
    """Keeps workers that share a store from making the same call twice.

    Args:
        leases: leases of the shared store; None for a single process, which never waits.
    """

    def __init__(self, leases: Leases | None) -> None:
        self._leases = leases

    @asynccontextmanager
    async def claim(
        self, key: str, find: Callable[[], Awaitable[T | None]], still_wanted: Callable[[], bool]
    ) -> AsyncIterator[T | None]:
        """Holds the lease on a key, or waits for the result of the worker that holds it.

        Args:
            key: key of the work.
            find: function that reads the result from the shared cache; None if it is not there.
            still_wanted: function that tells whether a request still waits for the result.

        Yields:
            The result if another worker has made it. Otherwise None: inside the context this worker holds
            the lease, or the store is down, and it must do the work.

        Raises:
            TimeoutError: another worker holds the lease, and the result is no longer wanted.
        """
        if self._leases is None:
            yield None
            return
        # A new holder for each claim: a claim must not renew the lease of an earlier one of the same worker.
        holder = uuid.uuid4().hex
        found = await self._take_or_find(self._leases, key, holder, find, still_wanted)
        if found is not None:
            yield found
            return
        renewing = asyncio.create_task(self._renew(self._leases, key, holder))
        try:
            yield None
        finally:
            renewing.cancel()
            with suppress(StoreError):
                await self._leases.release(key, holder)

    async def _take_or_find(
        self,
        leases: Leases,
        key: str,
        holder: str,
        find: Callable[[], Awaitable[T | None]],
        still_wanted: Callable[[], bool],
    ) -> T | None:
        pause = FIRST_PAUSE
        while True:
            try:
                ours = await leases.take(key, holder, LEASE)
            except StoreError:  # without the store each worker makes its own calls
                return None
            # Read also with the lease: the worker that held it before may have written the result just now.
            found = await find()
            if found is not None and ours:
                with suppress(StoreError):
                    await leases.release(key, holder)
            if found is not None or ours:
                return found
            if not still_wanted():
                raise TimeoutError
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, 1.5 * pause)

    async def _renew(self, leases: Leases, key: str, holder: str) -> None:
        """Renews a lease until it is cancelled."""
        while True:
            # A third of the lease, so that two renewals may fail before it ends.
            await asyncio.sleep(LEASE / 3)
            with suppress(StoreError):
                await leases.take(key, holder, LEASE)
