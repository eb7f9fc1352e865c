"""Singleflight: identical concurrent requests of one process wait for one call, which outlives them all.

The name and the idea are those of Go's ``golang.org/x/sync/singleflight``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

from service.lvlm.calls.call_progress import CallProgress
from service.outages import Outage

log = logging.getLogger(__name__)

T = TypeVar("T")


class SharedCall(Generic[T]):
    """One call under way, and the requests that wait for it.

    Args:
        until: event loop's time until which a request waits.
        end: event loop's time at which the call is cut, whether or not a request waits.
        awaited: whether a request waits for it at all.

    Attributes:
        end: the same.
        progress: what the call is doing.
        result: its result; there before the task is over, which may still have to write it down.
        task: the work.
    """

    def __init__(self, until: float, end: float, *, awaited: bool = True) -> None:
        self.end = end
        self.progress = CallProgress(until, awaited)
        self.task: asyncio.Task[None] | None = None
        self.result: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def resolve(self, result: T) -> None:
        """Gives the result to all requests that wait; a second one is ignored."""
        if not self.result.done():
            self.result.set_result(result)

    def cancel(self) -> None:
        """Ends the call, whose result is not wanted any more."""
        if self.task is not None:
            self.task.cancel()

    async def wait(self, until: float, watcher: Callable[[], None] | None = None) -> bool:
        """Waits for the result and tells whether it is there; leaving early does the call no harm.

        Args:
            until: event loop's time at which to leave.
            watcher: called whenever more of the answer has arrived.
        """
        if watcher is None:
            await asyncio.wait({self.result}, timeout=max(0.0, until - asyncio.get_running_loop().time()))
            return self.result.done()
        news = asyncio.Event()
        self.result.add_done_callback(lambda _: news.set())
        self.progress.watch(news)
        try:
            async with asyncio.timeout_at(until):
                while not self.result.done():
                    await news.wait()
                    news.clear()
                    watcher()
        except TimeoutError:
            pass
        finally:
            self.progress.unwatch(news)
        return self.result.done()


class Singleflight(Generic[T]):
    """All shared calls of one process, by what they ask."""

    def __init__(self) -> None:
        self._by_key: dict[str, SharedCall[T]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._faults = Outage("calls", log, level=logging.ERROR)

    def __len__(self) -> int:
        return len(self._tasks)

    def join(self, key: str, until: float, *, awaited: bool = True) -> SharedCall[T] | None:
        """Returns the call that is under way for a key, which goes on at least until then.

        None if there is none, or none that can go on for so long.
        """
        shared = self._by_key.get(key)
        # A call that is cut before this request's deadline would take an answer from it that it has time for.
        if shared is None or until > shared.end:
            return None
        # Retries and queueing go by the most patient request.
        shared.progress.until = max(shared.progress.until, until)
        shared.progress.awaited |= awaited
        return shared

    def begin(
        self,
        key: str | None,
        until: float,
        end: float,
        work: Callable[[SharedCall[T]], Coroutine[Any, Any, None]],
        *,
        awaited: bool = True,
    ) -> SharedCall[T]:
        """Begins a call in a task of its own, so that no request's leaving ends it.

        Args:
            key: key under which other requests may join; None for a call that is not shared.
            until: event loop's time until which a request waits.
            end: event loop's time at which the call is cut.
            work: makes the call and resolves it.
            awaited: whether a request waits for it at all.
        """
        shared: SharedCall[T] = SharedCall(until, end, awaited=awaited)
        shared.progress.alone = key is None
        task = shared.task = asyncio.create_task(work(shared))
        if key is not None:
            self._by_key[key] = shared
        self._tasks.add(task)
        task.add_done_callback(partial(self._over, key, shared))
        return shared

    async def close(self, grace: float) -> None:
        """Gives the calls a number of seconds to end by themselves, then cancels them."""
        tasks = set(self._tasks)
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=grace)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _over(self, key: str | None, shared: SharedCall[T], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # A later call under the same key, begun since this one could not go on for long enough, stays.
        if key is not None and self._by_key.get(key) is shared:
            del self._by_key[key]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._faults.failed("a call broke: %s", type(error).__name__, error=error)
        if not shared.result.done():
            shared.result.cancel()
