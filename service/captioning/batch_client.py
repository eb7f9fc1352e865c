"""Calls a provider's batch API with retries, which end when the run is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import count
from typing import TypeVar

from service.lvlm.providers.base import Call, ProviderError
from service.lvlm.providers.batches import Batches, BatchResult, BatchState

MAX_ATTEMPTS = 5
"""Attempts at one request to the batch API; when the last one fails the run ends, and a later one goes on."""

T = TypeVar("T")


class BatchClient:
    """Calls a provider's batch API with retries and backoff; ``stop`` ends all waits and further attempts.

    Args:
        batches: batch API of the provider.
    """

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._stop = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Ends all waits and retries."""
        self._stop.set()

    async def submit(self, calls: Mapping[str, Call], token: str) -> str:
        """Creates a batch in one attempt: after a lost answer it may exist, and a second would be paid too.

        Args:
            calls: calls by request name.
            token: text that begins every request name.

        Returns:
            The provider's id of the batch.

        Raises:
            ProviderError: the provider refused it or failed, or its answer was lost.
        """
        return await self._batches.submit(calls, token)

    async def created_since(self, at: float, token: str, requests: int) -> list[str]:
        """Lists the ids of batches that may be the one with this token.

        Args:
            at: seconds since the epoch; older batches are left out.
            token: token of the submission.
            requests: number of requests in it.

        Raises:
            ProviderError: every attempt failed.
        """
        return await self._retried(lambda: self._batches.created_since(at, token, requests))

    async def state(self, batch: str) -> BatchState:
        """Asks for the state of a batch.

        Raises:
            ProviderError: every attempt failed, or the provider does not know the batch.
        """
        return await self._retried(lambda: self._batches.state(batch))

    def results(self, batch: str) -> AsyncIterator[BatchResult]:
        """Reads the results of a batch that has ended, in any order."""
        return self._batches.results(batch)

    def retries(self, error: ProviderError, attempt: int) -> bool:
        """Returns whether another attempt follows this failure.

        Args:
            error: failure of the last attempt.
            attempt: number of attempts so far, at least 1.
        """
        return error.kind.retryable and attempt < MAX_ATTEMPTS and not self.stopping

    async def back_off(self, error: ProviderError, attempt: int) -> None:
        """Waits as long as the provider asks for, else 2, 4, 8, … seconds."""
        await self.sleep(error.retry_after or 2.0**attempt)  # the first attempt is number 1

    async def sleep(self, seconds: float) -> None:
        """Waits for some seconds, or until ``stop`` is called."""
        with suppress(TimeoutError):  # the time has passed without a stop
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _retried(self, request: Callable[[], Awaitable[T]]) -> T:
        """Makes a request that is free of charge and changes nothing, in up to ``MAX_ATTEMPTS`` attempts."""
        for attempt in count(1):
            try:
                return await request()
            except ProviderError as error:
                if not self.retries(error, attempt):
                    raise
                await self.back_off(error, attempt)
        raise AssertionError("unreachable")
