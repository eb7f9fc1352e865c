"""A recommendation as server-sent events: the candidates at once, then every item as the LVLM decides it.

Events, in order: ``candidates``, ``item`` (any number), ``explanation`` (if one was asked for and given) and
``answer``, which is the whole answer as it would have come without watching; what it says counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

import orjson

from service.answer import answer, candidates, placed_item
from service.bundle import Catalogue
from service.recommender import Recommendation

MEDIA_TYPE = "text/event-stream"

QUIET = 15.0
"""Seconds without an event after which a comment is sent: proxies close what is silent for a minute."""

log = logging.getLogger(__name__)


class EventStream:
    """Watches one recommendation and writes down what it sees.

    Attributes:
        told: everything was, to the end.
    """

    def __init__(self, catalogue: Catalogue, request_id: str) -> None:
        self._catalogue = catalogue
        self._request_id = request_id
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._placed = 0
        self.told = False
        self._task: asyncio.Task[Recommendation] | None = None

    def candidates(self, recommendation: Recommendation) -> None:
        """See Watcher."""
        self._tell("candidates", candidates(recommendation, self._catalogue, self._request_id))

    def placed(self, recommendation: Recommendation, rows: Sequence[int]) -> None:
        """See Watcher."""
        for rank, row in enumerate(rows[self._placed :], start=self._placed + 1):
            self._tell("item", placed_item(recommendation, self._catalogue, row, rank))
        self._placed = max(self._placed, len(rows))

    async def begin(self, recommending: Coroutine[Any, Any, Recommendation]) -> None:
        """Start, and wait until there is something to tell.

        Raises:
            ServiceError: the request is refused, so that nothing has to be told.
        """
        self._task = asyncio.create_task(recommending)
        self._task.add_done_callback(lambda _: self._events.put_nowait(None))
        first = await self._events.get()
        if first is None:
            await self._task  # raises
        self._first = first

    async def read(self) -> AsyncIterator[bytes]:
        """The events, as they come, and a comment now and then, so that nobody on the way hangs up."""
        assert self._task is not None
        event: bytes | None = self._first
        while event is not None:
            yield event
            event = await self._next()
        for last in self._end(self._task.result()):
            yield last
        self.told = True

    def close(self) -> None:
        """Nobody listens any more, or all is told: wait for the LVLM no longer."""
        if self._task is not None:
            self._task.cancel()

    async def _next(self) -> bytes | None:
        try:
            async with asyncio.timeout(QUIET):
                return await self._events.get()
        except TimeoutError:
            return b": still at it\n\n"

    def _end(self, recommendation: Recommendation) -> list[bytes]:
        self.placed(recommendation, recommendation.placed[: recommendation.k])
        told = answer(recommendation, self._catalogue, self._request_id)
        if told["explanation"] is not None:
            self._tell("explanation", {"explanation": told["explanation"]})
        self._tell("answer", told)
        events = []
        while not self._events.empty():
            event = self._events.get_nowait()
            if event is not None:
                events.append(event)
        return events

    def _tell(self, kind: str, content: dict[str, Any]) -> None:
        self._events.put_nowait(b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(content)))
