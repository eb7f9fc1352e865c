"""Opens a provider at its first call, so that a start does not wait for the import of its SDK (a second)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from service.lvlm.providers.base import Call, Event, Provider


class LazyProvider:
    """A provider that the first call opens, in a thread and only once.

    Args:
        name: configured name of the provider.
        open_provider: function that opens it.
    """

    def __init__(self, name: str, open_provider: Callable[[], Provider]) -> None:
        self._name = name
        self._open = open_provider
        self._opening: asyncio.Future[Provider] | None = None

    @property
    def name(self) -> str:
        """See Provider."""
        return self._name

    async def stream(self, call: Call) -> AsyncIterator[Event]:
        """See Provider; calls wait until the provider is open."""
        if self._opening is None:
            self._opening = asyncio.ensure_future(asyncio.to_thread(self._open))
        # Shielded, since all first calls share it: one that is cancelled must not cancel it for the others.
        provider = await asyncio.shield(self._opening)
        # Closing this iterator closes the provider's, and so frees its connection.
        async with aclosing(provider.stream(call)) as events:  # type: ignore[type-var]
            async for event in events:
                yield event

    async def close(self) -> None:
        """See Provider."""
        if self._opening is not None:
            await (await self._opening).close()
