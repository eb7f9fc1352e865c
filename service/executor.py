"""Candidate generation off the event loop, with a queue that is allowed to be full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from service.errors import OverloadedError

P = ParamSpec("P")
T = TypeVar("T")


class BoundedExecutor:
    """A few threads and a bounded number of calls waiting for them.

    Inference inside the event loop starves other connections; an unbounded queue makes everybody wait for
    answers that nobody wants any more. Both end here: what does not fit is refused at once.
    """

    def __init__(self, threads: int, queue: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="candidates")
        self._free = threads + queue

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``work`` in a thread.

        Raises:
            OverloadedError: the queue is full.
        """
        if self._free <= 0:
            raise OverloadedError("the queue of waiting recommendations is full", retry_after=1)
        self._free -= 1
        # The place is given back when the thread is done, not when the caller goes away: a cancelled
        # request must not make room that is not there.
        future = self._pool.submit(work, *args, **kwargs)
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release))
        return await asyncio.wrap_future(future)

    def _release(self) -> None:
        self._free += 1

    def close(self) -> None:
        """Wait for running calls and stop the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
