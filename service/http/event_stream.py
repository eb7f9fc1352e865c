"""A recommendation as server-sent events: the candidates at once, then every item as the LVLM decides it.

Events, in order: ``candidates``, ``item`` (any number), ``explanation`` (if one was asked for and given) and
``answer``, which is the whole answer as it would have come without watching; what it says counts. Whatever
breaks after the first event, ``answer`` is the last one: the candidate model's order after the items already
told. If even that cannot be written, it is ``error`` with problem details.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import orjson

from service.http.answer import answer, candidates, placed_item
from service.http.problems import problem
from service.logs import FIELDS
from service.lvlm.contracts import Outcome
from service.recommender import OK, Recommendation

MEDIA_TYPE = "text/event-stream"

QUIET = 15.0
"""Seconds without an event after which a comment is sent: proxies close what is silent for a minute."""

log = logging.getLogger(__name__)


class EventStream:
    """Watches one recommendation and writes down what it sees.

    Args:
        request_id: of the answer and of the log.
        broke: given the answer that is told instead of one that broke in the middle.

    Attributes:
        told: everything was, to the end.
    """

    def __init__(self, request_id: str, broke: Callable[[Recommendation], None] = lambda _: None) -> None:
        self._request_id = request_id
        self._broke = broke
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._begun: Recommendation | None = None
        self._placed: tuple[int, ...] = ()
        self.told = False
        self._task: asyncio.Task[Recommendation] | None = None

    def candidates(self, recommendation: Recommendation) -> None:
        """See Watcher."""
        self._tell("candidates", candidates(recommendation, self._request_id))
        self._begun = recommendation

    def placed(self, recommendation: Recommendation, rows: Sequence[int]) -> None:
        """See Watcher."""
        for rank, row in enumerate(rows[len(self._placed) :], start=len(self._placed) + 1):
            self._tell("item", placed_item(recommendation, row, rank))
            self._placed = (*self._placed, row)

    async def begin(self, recommending: Coroutine[Any, Any, Recommendation]) -> None:
        """Start, and wait until there is something to tell.

        Raises:
            ServiceError: the request is refused, so that nothing has to be told.
        """
        self._task = asyncio.create_task(self._recommend(recommending))
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
        for last in self._last():
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

    async def _recommend(self, recommending: Coroutine[Any, Any, Recommendation]) -> Recommendation:
        try:
            return await recommending
        except Exception:
            if self._begun is None:  # nothing is told yet: the request is refused, or answered with an error
                raise
            self._log("a recommendation broke while it was watched")
            return self._rescued(self._begun)

    def _rescued(self, recommendation: Recommendation) -> Recommendation:
        """What was told so far and the candidate model's order, as an answer."""
        if recommendation.strategy.asks_lvlm and recommendation.lvlm is None and recommendation.outcome == OK:
            recommendation.placed = self._placed
            recommendation.outcome = Outcome.PARTIAL if self._placed else Outcome.FALLBACK_PROVIDER
            if self._placed:
                recommendation.served = recommendation.strategy.name
            recommendation.warnings.append("the LVLM stage broke: the candidate model's order goes on")
            self._broke(recommendation)
        return recommendation

    def _last(self) -> list[bytes]:
        """The last events, of which the very last is the answer."""
        assert self._task is not None
        assert self._begun is not None
        try:
            self._end(self._rescued(self._begun) if self._task.cancelled() else self._task.result())
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
        self.placed(recommendation, recommendation.placed[: recommendation.k])
        told = answer(recommendation, self._request_id)
        if told["explanation"] is not None:
            self._tell("explanation", {"explanation": told["explanation"]})
        self._tell("answer", told)

    def _log(self, message: str) -> None:
        log.exception(message, extra={FIELDS: {"request_id": self._request_id}})

    def _tell(self, kind: str, content: dict[str, Any]) -> None:
        self._send(kind, orjson.dumps(content))

    def _send(self, kind: str, content: bytes) -> None:
        self._events.put_nowait(b"event: %b\ndata: %b\n\n" % (kind.encode(), content))
