"""Runs blocking work in threads, off the event loop, with a bounded queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from service.errors import OverloadedError

P = ParamSpec("P")
T = TypeVar("T")


class BoundedExecutor:
    """Runs calls in a few threads with a bounded queue before them; a call that does not fit is refused.

    Inference inside the event loop would hold up all other connections. Behind an unbounded queue, requests
    would wait for the work of clients that have long left.

    Args:
        threads: calls that run at once, at least 1.
        queue: calls that may wait for a thread.
        work: what the calls do, in the plural, for the threads' names and the sentence of a refusal.
    """

    def __init__(self, threads: int, queue: int, work: str = "recommendations") -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=work)
        self._work = work
        self._free = threads + queue  # calls that still fit, running and waiting ones together

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs ``work`` in a thread and returns what it returns.

        Raises:
            OverloadedError: the queue is full.
        """
        if self._free <= 0:
            raise OverloadedError(f"the queue of waiting {self._work} is full", retry_after=1)
        self._free -= 1
        # Released when the thread is done, not when the caller leaves: the thread of a cancelled request is
        # still busy, and another call would not fit yet.
        future = self._pool.submit(work, *args, **kwargs)
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release))
        return await asyncio.wrap_future(future)

    def _release(self) -> None:
        self._free += 1

    def close(self) -> None:
        """Waits for running calls, drops waiting ones and stops the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
