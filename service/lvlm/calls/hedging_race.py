"""Runs attempts at the same call side by side, and keeps the first one that begins its answer."""

from __future__ import annotations

import asyncio
from types import TracebackType

from service.lvlm.calls.call_progress import CallProgress
from service.lvlm.provider_attempt import Attempt, Ending


class Race:
    """Runs attempts side by side, as a context manager; at its exit none of them runs any more.

    Args:
        progress: progress of the call, which wakes the race when text of an attempt arrives.
    """

    def __init__(self, progress: CallProgress) -> None:
        self._progress = progress
        self._changed = asyncio.Event()
        self._tasks: dict[Attempt, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Race:
        self._progress.watch(self._changed)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.unwatch(self._changed)
        await self._cancel(list(self._tasks.values()))

    def add(self, attempt: Attempt, task: asyncio.Task[None]) -> None:
        """Adds an attempt that is running in a task."""
        self._tasks[attempt] = task
        task.add_done_callback(lambda _: self._changed.set())

    @property
    def decided(self) -> bool:
        """Whether an attempt has begun its answer, or all have ended."""
        return self._leader() is not None or all(task.done() for task in self._tasks.values())

    async def wait(self, seconds: float | None = None) -> bool:
        """Waits until the race is decided; returns False if it is not after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while not self.decided:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def winner(self) -> Attempt:
        """Cancels all attempts but the leading one, waits for its end and returns it.

        If all have failed, the attempt that was added last is returned.
        """
        await self.wait()
        leader = self._progress.attempt = self._leader() or next(reversed(self._tasks))
        await self._cancel([task for attempt, task in self._tasks.items() if attempt is not leader])
        await self._tasks[leader]
        return leader

    def _leader(self) -> Attempt | None:
        # The attempt whose text the waiting requests were shown stays the leader.
        leader = self._progress.attempt
        if leader in self._tasks and leader.answering:
            return leader
        return next((each for each in self._tasks if each.ending is Ending.FINISHED), None)

    async def _cancel(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
