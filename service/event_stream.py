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

log = logging.getLogger(__name__)


class EventStream:
    """Watches one recommendation and writes down what it sees."""

    def __init__(self, catalogue: Catalogue, request_id: str) -> None:
        self._catalogue = catalogue
        self._request_id = request_id
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._told = 0
        self._task: asyncio.Task[Recommendation] | None = None

    def candidates(self, recommendation: Recommendation) -> None:
        """See Watcher."""
        self._tell("candidates", candidates(recommendation, self._catalogue, self._request_id))

    def placed(self, recommendation: Recommendation, rows: Sequence[int]) -> None:
        """See Watcher."""
        for rank, row in enumerate(rows[self._told :], start=self._told + 1):
            self._tell("item", placed_item(recommendation, self._catalogue, row, rank))
        self._told = max(self._told, len(rows))

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
        """The events, as they come; who stops reading stops waiting for the LVLM."""
        assert self._task is not None
        try:
            event = self._first
            while event is not None:
                yield event
                event = await self._events.get()
            for last in self._end(self._task.result()):
                yield last
        finally:
            self._task.cancel()

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
