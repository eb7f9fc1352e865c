"""Sends a recommendation as server-sent events: the candidates first, then each item as the LVLM places it.

Events, in order: ``candidates``, ``item`` (any number), ``explanation`` (if one was asked for and given) and
``answer``, which is the same as for a request without a stream, and final where an earlier event differs.
After an error in the LVLM stage ``answer`` still comes last: the items already sent, then the candidate
model's order. If the answer itself cannot be made, the last event is ``error`` with problem details.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import orjson

from service.http.answer import answer, candidates, placed_item
from service.http.links import Links
from service.http.problems import problem
from service.logs import FIELDS
from service.lvlm.contracts import Outcome
from service.recommender import OK, Recommendation

MEDIA_TYPE = "text/event-stream"

KEEP_ALIVE_SECONDS = 15.0
"""Seconds without an event after which a comment is sent, since many proxies close a connection on which
nothing comes for a minute."""

log = logging.getLogger(__name__)


class EventStream:
    """Turns one recommendation into events while it is made.

    Args:
        request_id: id of the request, for the answer and for the log.
        links: builder of the links in the events.
        rescued: function that is called with a recommendation whose LVLM stage broke, before it is answered.

    Attributes:
        complete: whether every event was read to the end.
    """

    def __init__(
        self, request_id: str, links: Links, rescued: Callable[[Recommendation], None] = lambda _: None
    ) -> None:
        self._request_id = request_id
        self._links = links
        self._on_rescue = rescued
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue()  # None: the recommendation has ended
        self._candidates_sent: Recommendation | None = None  # as it was then; None until then
        self._placed: tuple[int, ...] = ()  # rows of the items sent so far, best first
        self.complete = False
        self._task: asyncio.Task[Recommendation] | None = None

    def candidates(self, recommendation: Recommendation) -> None:
        """See ``Listener``."""
        self._send_json("candidates", candidates(recommendation, self._request_id, self._links))
        self._candidates_sent = recommendation

    def placed(self, recommendation: Recommendation, rows: Sequence[int]) -> None:
        """See ``Listener``."""
        for rank, row in enumerate(rows[len(self._placed) :], start=len(self._placed) + 1):
            self._send_json("item", placed_item(recommendation, row, rank, self._links))
            self._placed = (*self._placed, row)

    async def start(self, recommending: Coroutine[Any, Any, Recommendation]) -> None:
        """Starts the recommendation, and waits for its first event.

        A refused request has no event. The response has not begun then, so that it can have another status.

        Raises:
            ServiceError: the request is refused.
        """
        self._task = asyncio.create_task(self._recommend(recommending))
        self._task.add_done_callback(lambda _: self._events.put_nowait(None))
        first = await self._events.get()
        if first is None:
            await self._task  # raises why the recommendation ended without an event
        self._first = first

    async def read(self) -> AsyncIterator[bytes]:
        """Yields the events as they come, and a comment after ``KEEP_ALIVE_SECONDS`` without one."""
        assert self._task is not None
        event: bytes | None = self._first
        while event is not None:
            yield event
            event = await self._next()
        for last in self._last():
            yield last
        self.complete = True

    def close(self) -> None:
        """Stops waiting for the LVLM: the client has left, or every event was read."""
        if self._task is not None:
            self._task.cancel()

    async def _next(self) -> bytes | None:
        try:
            async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                return await self._events.get()
        except TimeoutError:
            # A line that begins with a colon is a comment (WHATWG HTML, 9.2.6).
            return b": still at it\n\n"

    async def _recommend(self, recommending: Coroutine[Any, Any, Recommendation]) -> Recommendation:
        try:
            return await recommending
        except Exception:
            if (
                self._candidates_sent is None
            ):  # no event yet: the request is refused, or answered with an error
                raise
            self._log("a recommendation broke while it was watched")
            return self._rescued(self._candidates_sent)

    def _rescued(self, recommendation: Recommendation) -> Recommendation:
        """Returns the recommendation with the items sent so far first, marked as a fallback."""
        if recommendation.strategy.asks_lvlm and recommendation.lvlm is None and recommendation.outcome == OK:
            recommendation.placed = self._placed
            recommendation.outcome = Outcome.PARTIAL if self._placed else Outcome.FALLBACK_PROVIDER
            if self._placed:
                recommendation.served = recommendation.strategy.name
            recommendation.warnings.append("the LVLM stage broke: the candidate model's order goes on")
            self._on_rescue(recommendation)
        return recommendation

    def _last(self) -> list[bytes]:
        """Returns the events that are left when the recommendation has ended; the last one is the answer."""
        assert self._task is not None
        assert self._candidates_sent is not None
        try:
            # Cancelled while the client still reads: the service stops, and the answer still goes out.
            self._end(self._rescued(self._candidates_sent) if self._task.cancelled() else self._task.result())
        except Exception:
            self._log("an event stream has no answer to end with")
            content = problem(500, "Internal error", "an unexpected error; the log has it", self._request_id)
            self._send("error", bytes(content.body))
        events = []
        while not self._events.empty():
            event = self._events.get_nowait()
            if event is not None:
                events.append(event)
        return events

    def _end(self, recommendation: Recommendation) -> None:
        # The items of an answer from the cache were never streamed: they come now.
        self.placed(recommendation, recommendation.placed[: recommendation.k])
        content = answer(recommendation, self._request_id, self._links)
        if content["explanation"] is not None:
            self._send_json("explanation", {"explanation": content["explanation"]})
        self._send_json("answer", content)

    def _log(self, message: str) -> None:
        # The id is given here, because the context variable may be reset when these lines are written.
        log.exception(message, extra={FIELDS: {"request_id": self._request_id}})

    def _send_json(self, kind: str, content: dict[str, Any]) -> None:
        self._send(kind, orjson.dumps(content))

    def _send(self, kind: str, content: bytes) -> None:
        self._events.put_nowait(b"event: %b\ndata: %b\n\n" % (kind.encode(), content))
