"""A provider's batch API, asked again after failures until the run is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import count
from typing import TypeVar

from service.lvlm.providers.base import Call, ProviderError
from service.lvlm.providers.batches import Batches, BatchResult, BatchState

ATTEMPTS = 5
"""At handing in and at looking, before the run gives up and leaves the rest to the next one."""

T = TypeVar("T")


class BatchClient:
    """The batch API with retries; being told to stop ends every wait.

    Args:
        batches: the provider's API.
    """

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._stop = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Try nothing again, and wait no longer."""
        self._stop.set()

    async def submit(self, calls: Mapping[str, Call], token: str) -> str:
        """Create a batch, tried once: an answer that was lost on its way may have been a yes."""
        return await self._batches.submit(calls, token)

    async def created_since(self, at: float, token: str, requests: int) -> list[str]:
        """Ids of batches that may be the one with this token."""
        return await self._asked(lambda: self._batches.created_since(at, token, requests))

    async def state(self, batch: str) -> BatchState:
        """How far a batch is."""
        return await self._asked(lambda: self._batches.state(batch))

    def results(self, batch: str) -> AsyncIterator[BatchResult]:
        """What came of a batch that has ended."""
        return self._batches.results(batch)

    def retries(self, error: ProviderError, attempt: int) -> bool:
        """Whether to try again after this failure.

        Args:
            error: the failure.
            attempt: number of attempts so far.
        """
        return error.kind.retryable and attempt < ATTEMPTS and not self.stopping

    async def back_off(self, error: ProviderError, attempt: int) -> None:
        """Wait as long as the provider asked for, else twice as long after each attempt."""
        await self.sleep(error.retry_after or 2.0**attempt)

    async def sleep(self, seconds: float) -> None:
        """Wait until then, or until it is told to stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        for attempt in count(1):
            try:
                return await ask()
            except ProviderError as error:
                if not self.retries(error, attempt):
                    raise
                await self.back_off(error, attempt)
        raise AssertionError("unreachable")
