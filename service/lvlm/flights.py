"""Calls under way, by what they ask: equal requests wait for one call, and it outlives them all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

from service.lvlm.progress import Progress
from service.outages import Outage

log = logging.getLogger(__name__)

T = TypeVar("T")


class Flight(Generic[T]):
    """One call under way.

    Attributes:
        progress: what it is doing.
        landing: its result; there before the flight is over, which may still have to write it down.
        task: the work.
        end: the event loop's time at which it is cut, whoever waits.
    """

    def __init__(self, until: float, end: float, *, awaited: bool = True) -> None:
        self.end = end
        self.progress = Progress(until, awaited)
        self.task: asyncio.Task[None] | None = None
        self.landing: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def land(self, result: T) -> None:
        """Tell everybody who waits."""
        if not self.landing.done():
            self.landing.set_result(result)

    def cancel(self) -> None:
        """End it: nobody wants what it would bring."""
        if self.task is not None:
            self.task.cancel()

    async def wait(self, until: float, watcher: Callable[[], None] | None = None) -> bool:
        """Wait for the landing, at most until the event loop's time; leaving early does the flight no harm.

        Args:
            until: when to leave.
            watcher: called whenever more of the answer has arrived.
        """
        if watcher is None:
            await asyncio.wait({self.landing}, timeout=max(0.0, until - asyncio.get_running_loop().time()))
            return self.landing.done()
        news = asyncio.Event()
        self.landing.add_done_callback(lambda _: news.set())
        self.progress.watch(news)
        try:
            async with asyncio.timeout_at(until):
                while not self.landing.done():
                    await news.wait()
                    news.clear()
                    watcher()
        except TimeoutError:
            pass
        finally:
            self.progress.unwatch(news)
        return self.landing.done()


class Flights(Generic[T]):
    """All flights of one process."""

    def __init__(self) -> None:
        self._by_key: dict[str, Flight[T]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._faults = Outage("calls", log, level=logging.ERROR)

    def __len__(self) -> int:
        return len(self._tasks)

    def join(self, key: str, until: float, *, awaited: bool = True) -> Flight[T] | None:
        """The flight that is under way for a key, which then knows that somebody waits until then.

        None if there is none, or none that goes on for so long.
        """
        flight = self._by_key.get(key)
        if flight is None or until > flight.end:
            return None
        flight.progress.until = max(flight.progress.until, until)
        flight.progress.awaited |= awaited
        return flight

    def begin(
        self,
        key: str | None,
        until: float,
        end: float,
        fly: Callable[[Flight[T]], Coroutine[Any, Any, None]],
        *,
        awaited: bool = True,
    ) -> Flight[T]:
        """Begin a flight in a task of its own, so that nobody's leaving ends it.

        Args:
            key: under which others may join; None for a flight of one's own.
            until: the event loop's time until which somebody waits.
            end: at which it is cut.
            fly: the work; it lands the flight.
            awaited: whether somebody waits for it at all.
        """
        flight: Flight[T] = Flight(until, end, awaited=awaited)
        flight.progress.alone = key is None
        task = flight.task = asyncio.create_task(fly(flight))
        if key is not None:
            self._by_key[key] = flight
        self._tasks.add(task)
        task.add_done_callback(partial(self._over, key, flight))
        return flight

    async def close(self, grace: float) -> None:
        """Give flights a moment to land, then end them."""
        tasks = set(self._tasks)
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=grace)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _over(self, key: str | None, flight: Flight[T], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if key is not None and self._by_key.get(key) is flight:
            del self._by_key[key]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._faults.failed("a call broke: %s", type(error).__name__, error=error)
        if not flight.landing.done():
            flight.landing.cancel()
