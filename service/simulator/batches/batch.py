"""Batches of requests: what both vendors' have alike, and the life that they lead."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from service.simulator.batches.calls import BatchCalls, Result

DAY = 86_400  # seconds; until then a vendor promises to have answered


@dataclass(kw_only=True)
class Batch:
    """A batch; the vendors' day passes in ``seconds``.

    Attributes:
        seconds: from its creation to its end.
        total: requests in it, once they are counted.
        counts: requests by outcome, once they have one.
        created_at, cancelling_at, ended_at: seconds since the epoch; None for what has not happened.
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
    ) -> AsyncIterator[Result]:
        """Make the calls one after the other, spread over the time of the batch.

        A cancellation so finds some of them made, and those that are not are left.

        Args:
            requests: custom ids and parameters, ``total`` of them.
            calls: makes them.
        """
        for place, (custom_id, params) in enumerate(requests, 1):
            await self.until(place / (self.total + 1))
            if self.cancelling_at is None:
                result = await calls.make(self.id, custom_id, params)
            else:
                result = calls.leave(custom_id)
            self.counts[result.outcome] += 1
            yield result

    async def until(self, share: float) -> None:
        """Wait until this share of the time has passed, or for a cancellation."""
        wait = self._began + share * self.seconds - time.monotonic()
        if wait <= 0 or self._cancelled.is_set():
            await asyncio.sleep(0)  # a late batch lets others run, too
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._cancelled.wait(), wait)

    def cancel(self) -> None:
        """Leave what has not been begun; for the second time, and after the end, it does nothing."""
        if self.cancelling_at is None and self.ended_at is None:
            self.cancelling_at = time.time()
            self._cancelled.set()


Kind = TypeVar("Kind", bound=Batch)


class Batches(Generic[Kind]):
    """All batches of a vendor; used on the event loop only."""

    def __init__(self) -> None:
        self._kept: dict[str, Kind] = {}
        self._lives: set[asyncio.Task[None]] = set()  # the loop itself holds its tasks weakly

    def begin(self, batch: Kind, life: Coroutine[Any, Any, None]) -> None:
        """Keep a batch and let it live."""
        self._kept[batch.id] = batch
        task = asyncio.create_task(life)
        self._lives.add(task)
        task.add_done_callback(self._lives.discard)

    def get(self, batch: str) -> Kind | None:
        """A batch by its id; None when there is none."""
        return self._kept.get(batch)

    def page(
        self, limit: int, *, after: str | None = None, before: str | None = None
    ) -> tuple[list[Kind], bool]:
        """So many batches, the newest first, and whether there are more in this direction.

        Args:
            limit: at most so many.
            after: the id of a batch; those that are older come.
            before: the id of a batch; those that are newer come, up to it.

        Raises:
            KeyError: there is no such batch.
        """
        newest_first = list(reversed(self._kept.values()))
        places = {batch.id: place for place, batch in enumerate(newest_first)}
        if before is not None:
            end = places[before]
            return newest_first[max(0, end - limit) : end], end > limit
        start = 0 if after is None else places[after] + 1
        return newest_first[start : start + limit], start + limit < len(newest_first)


def in_no_order(lines: list[bytes]) -> bytes:
    """Lines as the vendors give them back: not in the order of the requests, or not reliably."""
    random.Random(len(lines)).shuffle(lines)
    return b"".join(lines)


def read_limit(text: str | None, most: int) -> int | None:
    """Read the limit of a page, 20 when it is not given; None when it is not a number from 1 to ``most``."""
    if text is None:
        return 20
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        return None
    return int(text) if 1 <= int(text) <= most else None
