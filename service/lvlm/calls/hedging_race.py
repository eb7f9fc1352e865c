"""Attempts at the same call, of which the first to begin its answer goes on alone."""

from __future__ import annotations

import asyncio
from types import TracebackType

from service.lvlm.attempt import Attempt, Ending
from service.lvlm.calls.call_progress import CallProgress


class Race:
    """Lets attempts run side by side; when it is left, none is running any more.

    Args:
        progress: the call's progress, which wakes the race when a piece of an answer arrives.
    """

    def __init__(self, progress: CallProgress) -> None:
        self._progress = progress
        self._news = asyncio.Event()
        self._tasks: dict[Attempt, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Race:
        self._progress.watch(self._news)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.unwatch(self._news)
        await self._end(list(self._tasks.values()))

    def enter(self, attempt: Attempt, task: asyncio.Task[None]) -> None:
        """Lets an attempt that is under way take part."""
        self._tasks[attempt] = task
        task.add_done_callback(lambda _: self._news.set())

    @property
    def decided(self) -> bool:
        """Whether one has begun its answer, or all have failed."""
        return self._ahead() is not None or all(task.done() for task in self._tasks.values())

    async def wait(self, seconds: float | None = None) -> bool:
        """Waits until it is decided; returns False if it is not after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while not self.decided:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def won(self) -> Attempt:
        """Ends all attempts but the one ahead, waits for its end and returns it; the last if all failed."""
        await self.wait()
        ahead = self._progress.attempt = self._ahead() or next(reversed(self._tasks))
        await self._end([task for attempt, task in self._tasks.items() if attempt is not ahead])
        await self._tasks[ahead]
        return ahead

    def _ahead(self) -> Attempt | None:
        leader = self._progress.attempt  # whose answer the watchers have seen
        if leader in self._tasks and leader.answering:
            return leader
        return next((each for each in self._tasks if each.ending is Ending.FINISHED), None)

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
