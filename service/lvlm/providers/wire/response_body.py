"""The body of an answer as JSON records: server-sent events or one object, whichever the provider sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable

from service.lvlm.providers.base import FailureKind, ProviderError
from service.lvlm.providers.wire.event_parser import KEEP_ALIVE, EventParser
from service.lvlm.providers.wire.size_limits import PAUSE, Bounds, oversized
from service.lvlm.providers.wire.untrusted_json import load

LINGER = 0.25
"""Seconds for which the end of a body is waited for once nothing more is needed of it.

A body that is left unread costs its connection, and a server that does not hang up must not keep the answer.
"""

TURN, BURST = 16, 64
"""Events of a chunk after which others get their turn on the loop, and turns of an answer without pauses."""

_BOM = b"\xef\xbb\xbf"
_DONE = b"[DONE]"


class Body:
    """Reads one body, within bounds.

    Args:
        chunks: the body's bytes as they arrive.
        bounds: beyond which it is given up.

    Attributes:
        plain: it is one JSON value and no stream.
        noise: events that were no JSON.
        events: that were.
    """

    def __init__(self, chunks: AsyncIterable[bytes], bounds: Bounds) -> None:
        self._chunks = aiter(chunks)
        self._bounds = bounds
        self._until: float | None = None
        self.plain = False
        self.noise = self.events = 0

    def linger(self, seconds: float) -> None:
        """The answer is complete: wait no longer than this for what else comes."""
        until = asyncio.get_running_loop().time() + seconds
        self._until = until if self._until is None else min(until, self._until)

    def carry_on(self) -> None:
        """More of the answer has come: wait for it as before."""
        self._until = None

    async def records(self) -> AsyncGenerator[object]:
        """Yield each JSON value; None for a sign of life and for what is no JSON among events.

        Raises:
            ProviderError: the body is too large, or it is no stream and no JSON.
        """
        chunk = await self._first()
        self.plain = chunk[:1] in (b"{", b"[", b"<") or 0 < len(chunk) < len(_BOM)
        if self.plain:
            yield await self._value(chunk)
            return
        parser, size, turns = EventParser(), 0, 0
        while chunk:
            size += len(chunk)
            self._check(size, self._bounds.body, "a stream")
            for number, data in enumerate(parser.feed(chunk), start=1):
                if number % TURN == 0:
                    turns += 1
                    await asyncio.sleep(0 if turns < BURST else PAUSE)
                try:
                    told = load(data)
                except ValueError:
                    for told in self._unclear(data):
                        yield told
                else:
                    self.events += 1
                    yield told
            self._check(parser.lines, self._bounds.lines, "events")
            chunk = await self._next()
        for data in parser.end():
            for told in self._unclear(data):
                yield told

    async def _next(self) -> bytes:
        """More of the body; empty at its end, or when it has been waited for long enough."""
        try:
            if self._until is None:
                return await anext(self._chunks)
            async with asyncio.timeout_at(self._until):
                return await anext(self._chunks)
        except (StopAsyncIteration, TimeoutError):
            return b""

    async def _first(self) -> bytes:
        """The beginning of the body: more than a byte order mark and white space, or all there is."""
        first = b""
        while chunk := await self._next():
            first += chunk
            begun = first.removeprefix(_BOM).lstrip()
            if len(first) > len(_BOM) and begun:
                return begun
            self._check(len(first), self._bounds.plain, "a body")
        return first.removeprefix(_BOM).strip()

    async def _value(self, first: bytes) -> object:
        whole, size = [first], len(first)
        while chunk := await self._next():
            whole.append(chunk)
            size += len(chunk)
            self._check(size, self._bounds.plain, "a body")
        try:
            return load(b"".join(whole))
        except ValueError:
            raise ProviderError(FailureKind.SERVER, "the provider sent something that is not JSON") from None

    def _unclear(self, data: bytes) -> tuple[object, ...]:
        """What an event says that may be no JSON; some servers forget the blank lines between events."""
        if data == KEEP_ALIVE:
            return (None,)
        if data.strip() == _DONE:
            self.linger(LINGER)
            return ()
        try:
            told = load(data)
            self.events += 1
            return (told,)
        except ValueError:
            lines = data.split(b"\n")
            if len(lines) > 1:
                return tuple(told for line in lines for told in self._unclear(line))
            self.noise += 1
            return (None,)

    def _check(self, taken: int, bound: int, what: str) -> None:
        if taken > bound:
            raise oversized(what)
