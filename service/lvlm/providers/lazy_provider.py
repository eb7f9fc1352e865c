"""A provider opened when it is first asked: importing an SDK takes a second that a start need not pay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from service.lvlm.providers.base import Call, Event, Provider


class LateProvider:
    """Stands for a provider until the first call opens it, off the event loop and only once."""

    def __init__(self, name: str, open_provider: Callable[[], Provider]) -> None:
        self._name = name
        self._open = open_provider
        self._opening: asyncio.Future[Provider] | None = None

    @property
    def name(self) -> str:
        """See Provider."""
        return self._name

    async def stream(self, call: Call) -> AsyncIterator[Event]:
        """See Provider; the first call also waits for the SDK."""
        if self._opening is None:
            self._opening = asyncio.ensure_future(asyncio.to_thread(self._open))
        # Shielded: a caller whose deadline comes while the SDK loads must not take it from the others.
        provider = await asyncio.shield(self._opening)
        async with aclosing(provider.stream(call)) as events:  # type: ignore[type-var]  # closing this closes that
            async for event in events:
                yield event

    async def close(self) -> None:
        """See Provider."""
        if self._opening is not None:
            await (await self._opening).close()
