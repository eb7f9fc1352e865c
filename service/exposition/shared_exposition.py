"""Makes one exposition at a time for all who ask meanwhile, with pauses between them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

PAUSE = 4.0
"""Pause after an exposition, in its durations: one client that asks all the time takes a fifth of a core."""
MOST_PAUSE_SECONDS = 1.0
"""Longest pause in seconds: an exposition may be long because other processes were, and Prometheus waits."""


class SharedExposition:
    """Gives each caller an exposition that began after the call.

    Callers that come while one is being made share the next one, so that any number of them costs as much as
    one that never stops asking.

    Args:
        make: makes one exposition.
    """

    def __init__(self, make: Callable[[], Awaitable[bytes]]) -> None:
        self._make = make
        self._next: asyncio.Task[bytes] | None = None  # the one that has not begun
        self._making = asyncio.Lock()
        self._free_at = 0.0  # by the event loop's clock

    async def get(self) -> bytes:
        """Returns an exposition that began after this call; raises what ``make`` raised."""
        if self._next is None:
            self._next = asyncio.create_task(self._run())
            self._next.add_done_callback(_retrieve)
        # Shielded: a client that leaves must not end what others wait for.
        return await asyncio.shield(self._next)

    async def _run(self) -> bytes:
        loop = asyncio.get_running_loop()
        async with self._making:
            await asyncio.sleep(max(0.0, self._free_at - loop.time()))
            self._next = None  # later callers must not get this one: it might lack what they have seen
            began = loop.time()
            try:
                return await self._make()
            finally:
                now = loop.time()
                self._free_at = now + min(PAUSE * (now - began), MOST_PAUSE_SECONDS)


def _retrieve(task: asyncio.Task[bytes]) -> None:
    """Marks an exception as seen, for all callers may have left."""
    if not task.cancelled():
        task.exception()
