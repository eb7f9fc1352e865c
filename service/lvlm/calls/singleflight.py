"""Singleflight: identical concurrent requests of one process share one call, which outlives each of them.

Name and idea are those of Go's ``golang.org/x/sync/singleflight``. Across processes ``worker_lease`` does the
same.
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
    """A call that is being made, for all requests that wait for it.

    Args:
        until: event loop's time, in seconds, until which a request waits.
        end: event loop's time, in seconds, at which the call is cut, whether or not a request waits.
        awaited: whether any request waits for it.

    Attributes:
        end: event loop's time at which the call is cut.
        progress: progress of the call.
        result: future of the result. It is done before the task ends, which then writes to the cache.
        task: task that makes the call; None until it is started.
    """

    def __init__(self, until: float, end: float, *, awaited: bool = True) -> None:
        self.end = end
        self.progress = CallProgress(until, awaited)
        self.task: asyncio.Task[None] | None = None
        self.result: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def resolve(self, result: T) -> None:
        """Gives the result to all requests that wait; a second result is ignored."""
        if not self.result.done():
            self.result.set_result(result)

    def cancel(self) -> None:
        """Cancels the call, whose result is not wanted any more."""
        if self.task is not None:
            self.task.cancel()

    async def wait(self, until: float, watcher: Callable[[], None] | None = None) -> bool:
        """Waits for the result and tells whether it is there; the call goes on if it is not.

        Args:
            until: event loop's time, in seconds, at which to stop waiting.
            watcher: callback for whenever more of the answer has arrived.
        """
        if watcher is None:
            await asyncio.wait({self.result}, timeout=max(0.0, until - asyncio.get_running_loop().time()))
            return self.result.done()
        changed = asyncio.Event()
        self.result.add_done_callback(lambda _: changed.set())
        self.progress.watch(changed)
        try:
            async with asyncio.timeout_at(until):
                while not self.result.done():
                    await changed.wait()
                    changed.clear()
                    watcher()
        except TimeoutError:
            pass
        finally:
            self.progress.unwatch(changed)
        return self.result.done()


class Singleflight(Generic[T]):
    """Holds the shared calls of one process, by key."""

    def __init__(self) -> None:
        self._by_key: dict[str, SharedCall[T]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._faults = Outage("calls", log, level=logging.ERROR)

    def __len__(self) -> int:
        return len(self._tasks)

    def join(self, key: str, until: float, *, awaited: bool = True) -> SharedCall[T] | None:
        """Returns the running call for a key, for a request that waits for it; None if there is none.

        A call that is cut before the request's time ends is not returned: with a call of its own the request
        may get an answer.

        Args:
            key: key of the call.
            until: event loop's time, in seconds, until which the request waits.
            awaited: whether the request waits for the call.
        """
        shared = self._by_key.get(key)
        if shared is None or until > shared.end:
            return None
        # Waiting and retries go on for the request that has the most time.
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
        """Starts a call in a task of its own, so that it goes on when a request leaves.

        Args:
            key: key under which other requests may join; None for a measurement, which is never shared.
            until: event loop's time, in seconds, until which a request waits.
            end: event loop's time, in seconds, at which the call is cut.
            work: function that makes the call and resolves the shared call.
            awaited: whether any request waits for it.
        """
        shared: SharedCall[T] = SharedCall(until, end, awaited=awaited)
        shared.progress.measured = key is None
        task = shared.task = asyncio.create_task(work(shared))
        if key is not None:
            self._by_key[key] = shared
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, key, shared))
        return shared

    async def close(self, grace: float) -> None:
        """Waits for all calls for ``grace`` seconds, then cancels those that still run."""
        tasks = set(self._tasks)
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=grace)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, key: str | None, shared: SharedCall[T], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # Another call may have begun under the same key meanwhile, for a request with more time (see join).
        if key is not None and self._by_key.get(key) is shared:
            del self._by_key[key]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._faults.failed("a call broke: %s", type(error).__name__, error=error)
        if not shared.result.done():
            shared.result.cancel()
