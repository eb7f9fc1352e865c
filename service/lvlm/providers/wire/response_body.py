"""Reads the body of an answer as decoded JSON values: of server-sent events, or of one JSON text.

In: the body's bytes as they arrive, inflated. Out: values of any type, within ``Bounds``. The first bytes
decide which of both it is, since some servers ignore ``stream`` or do not name the type. What a value means
is read by an ``AnswerReader``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable

from service.lvlm.providers.base import FailureKind, ProviderError
from service.lvlm.providers.wire.event_parser import KEEP_ALIVE, EventParser
from service.lvlm.providers.wire.size_limits import FLOOD_PAUSE, Bounds, oversized
from service.lvlm.providers.wire.untrusted_json import load

END_WAIT = 0.25
"""Seconds for which a body's end is waited for once the answer is complete; then the connection is closed.

A body that is read to its end leaves a connection that can be used again, but a server that never ends it
must not delay the answer.
"""

EVENTS_PER_TURN, TURNS_WITHOUT_PAUSE = 16, 64
"""Events of a chunk after which other tasks get the event loop; turns after which each is a pause.

Events usually come in chunks of their own, so that neither is reached.
"""

_BOM = b"\xef\xbb\xbf"
_DONE = b"[DONE]"


class Body:
    """Reads one body, within bounds.

    Args:
        chunks: bytes of the body as they arrive.
        bounds: sizes beyond which reading ends with an error.

    Attributes:
        plain: whether the body is one JSON text instead of a stream of events.
        invalid: number of events that were not JSON.
        events: number of events that were JSON.
    """

    def __init__(self, chunks: AsyncIterable[bytes], bounds: Bounds) -> None:
        self._chunks = aiter(chunks)
        self._bounds = bounds
        self._until: float | None = None  # event loop's time after which no more is waited for
        self.plain = False
        self.invalid = self.events = 0

    def limit_wait(self, seconds: float) -> None:
        """Ends the body after so many seconds from now at the latest, as if the server had ended it."""
        until = asyncio.get_running_loop().time() + seconds
        self._until = until if self._until is None else min(until, self._until)

    def lift_limit(self) -> None:
        """Removes the limit on waiting, since more of the answer has come."""
        self._until = None

    async def records(self) -> AsyncGenerator[object]:
        """Yields each decoded JSON value; None for a keep-alive comment or an event that is not JSON.

        Raises:
            ProviderError: the body exceeds its bounds, or is neither a stream of events nor JSON.
        """
        chunk = await self._first()
        # "<" is an HTML page of a proxy: it is read as JSON, and fails as such.
        self.plain = chunk[:1] in (b"{", b"[", b"<") or 0 < len(chunk) < len(_BOM)
        if self.plain:
            yield await self._plain_value(chunk)
            return
        parser, size, turns = EventParser(), 0, 0
        while chunk:
            size += len(chunk)
            self._check(size, self._bounds.body, "a stream")
            for number, data in enumerate(parser.feed(chunk), start=1):
                if number % EVENTS_PER_TURN == 0:
                    turns += 1
                    await asyncio.sleep(0 if turns < TURNS_WITHOUT_PAUSE else FLOOD_PAUSE)
                try:
                    value = load(data)
                except ValueError:
                    for value in self._irregular(data):
                        yield value
                else:
                    self.events += 1
                    yield value
            self._check(parser.lines, self._bounds.lines, "events")
            chunk = await self._next()
        for data in parser.end():
            for value in self._irregular(data):
                yield value

    async def _next(self) -> bytes:
        """The next chunk of the body; empty at its end, or when the limit on waiting has passed."""
        try:
            if self._until is None:
                return await anext(self._chunks)
            async with asyncio.timeout_at(self._until):
                return await anext(self._chunks)
        except (StopAsyncIteration, TimeoutError):
            return b""

    async def _first(self) -> bytes:
        """The beginning of the body without byte order mark and white space; the whole of a shorter body."""
        first = b""
        while chunk := await self._next():
            first += chunk
            begun = first.removeprefix(_BOM).lstrip()
            if len(first) > len(_BOM) and begun:
                return begun
            self._check(len(first), self._bounds.plain, "a body")
        return first.removeprefix(_BOM).strip()

    async def _plain_value(self, first: bytes) -> object:
        whole, size = [first], len(first)
        while chunk := await self._next():
            whole.append(chunk)
            size += len(chunk)
            self._check(size, self._bounds.plain, "a body")
        try:
            return load(b"".join(whole))
        except ValueError:
            raise ProviderError(FailureKind.SERVER, "the provider sent something that is not JSON") from None

    def _irregular(self, data: bytes) -> tuple[object, ...]:
        """The values of an event whose data is not one JSON text: a comment, ``[DONE]``, or several events.

        Some servers leave out the blank lines between events, so that each line has to be read by itself.
        """
        if data == KEEP_ALIVE:
            return (None,)
        if data.strip() == _DONE:
            self.limit_wait(END_WAIT)
            return ()
        try:
            value = load(data)
            self.events += 1
            return (value,)
        except ValueError:
            lines = data.split(b"\n")
            if len(lines) > 1:
                return tuple(value for line in lines for value in self._irregular(line))
            self.invalid += 1
            return (None,)

    def _check(self, taken: int, bound: int, what: str) -> None:
        if taken > bound:
            raise oversized(what)
