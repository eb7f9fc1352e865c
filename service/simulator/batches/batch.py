"""Runs a batch of requests from its creation to its end, alike for both vendors, and stores batches."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from service.simulator.batches.calls import BatchCalls, BatchResult

COMPLETION_WINDOW = 86_400  # seconds in which both vendors promise to answer; a request expires beyond


@dataclass(kw_only=True)
class Batch:
    """A batch, which takes ``seconds`` where a vendor takes up to a day.

    Attributes:
        id: id that the client was given.
        seconds: seconds from its creation to its end.
        total: number of its requests; 0 until they are counted.
        counts: numbers of requests by outcome, once they have one.
        created_at: time of its creation in seconds since the epoch.
        cancelling_at: time of its cancellation in seconds since the epoch; None until then.
        ended_at: time of its end in seconds since the epoch; None until then.
    """

    id: str
    seconds: float
    total: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    created_at: float = field(default_factory=time.time)
    cancelling_at: float | None = None
    ended_at: float | None = None
    _began: float = field(default_factory=time.monotonic)
    _cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def results(
        self, requests: Iterable[tuple[str, dict[str, Any]]], calls: BatchCalls
    ) -> AsyncIterator[BatchResult]:
        """Makes the calls one after the other, spread over the time of the batch.

        A cancellation therefore finds some of them made; the others are skipped.

        Args:
            requests: custom ids and parameters, ``total`` of them.
            calls: maker of the calls.
        """
        for position, (custom_id, params) in enumerate(requests, 1):
            # Calls are spread evenly: the k-th of n begins at k / (n + 1) of the time.
            await self.until(position / (self.total + 1))
            if self.cancelling_at is None:
                result = await calls.make(self.id, custom_id, params)
            else:
                result = calls.skip(custom_id)
            self.counts[result.outcome] += 1
            yield result

    async def until(self, share: float) -> None:
        """Waits until a share (0 to 1) of the batch's seconds has passed, or until it is cancelled."""
        wait = self._began + share * self.seconds - time.monotonic()
        if wait <= 0 or self._cancelled.is_set():
            await asyncio.sleep(0)  # a batch that is late still yields to other calls between its own
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._cancelled.wait(), wait)

    def cancel(self) -> None:
        """Skips the requests that were not begun; does nothing a second time or after the end."""
        if self.cancelling_at is None and self.ended_at is None:
            self.cancelling_at = time.time()
            self._cancelled.set()


Kind = TypeVar("Kind", bound=Batch)


class BatchStore(Generic[Kind]):
    """Holds all batches of a vendor; used on the event loop only."""

    def __init__(self) -> None:
        self._kept: dict[str, Kind] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop holds its tasks weakly

    def begin(self, batch: Kind, work: Coroutine[Any, Any, None]) -> None:
        """Adds a batch and starts its work as a task."""
        self._kept[batch.id] = batch
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def get(self, batch: str) -> Kind | None:
        """Finds a batch by its id; None when there is none."""
        return self._kept.get(batch)

    def page(
        self, limit: int, *, after: str | None = None, before: str | None = None
    ) -> tuple[list[Kind], bool]:
        """Pages through the batches, newest first.

        Args:
            limit: batches on a page, at most.
            after: id of a batch; the page begins behind it, with the next older one.
            before: id of a batch; the page ends before it, with the next newer one.

        Returns:
            The batches, and whether there are more in this direction.

        Raises:
            KeyError: there is no such batch.
        """
        newest_first = list(reversed(self._kept.values()))
        positions = {batch.id: position for position, batch in enumerate(newest_first)}
        if before is not None:
            # "before" pages towards newer batches, and its page ends next to the named one.
            end = positions[before]
            return newest_first[max(0, end - limit) : end], end > limit
        start = 0 if after is None else positions[after] + 1
        return newest_first[start : start + limit], start + limit < len(newest_first)


def shuffled(lines: list[bytes]) -> bytes:
    """Joins lines out of order, since the vendors promise none: a client has to go by custom ids."""
    # A seed from the number of lines, so that the order is the same in every run.
    random.Random(len(lines)).shuffle(lines)
    return b"".join(lines)


def read_limit(text: str | None, most: int) -> int | None:
    """Parses the limit of a page: 20 without one, None when it is not an integer from 1 to ``most``."""
    if text is None:
        return 20
    # isdecimal() alone accepts other scripts' digits, and int() thousands of them.
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        return None
    return int(text) if 1 <= int(text) <= most else None
