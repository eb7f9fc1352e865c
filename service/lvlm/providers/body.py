"""The body of an answer as JSON records: server-sent events or one object, whichever the provider sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from service.lvlm.providers.base import FailureKind, ProviderError
from service.lvlm.providers.bounds import Bounds, oversized
from service.lvlm.providers.sse import KEEP_ALIVE, EventParser
from service.lvlm.providers.untrusted import load

LINGER = 0.25
"""Seconds for which the end of a body is waited for once nothing more is needed of it.

A body that is left unread costs its connection, and a server that does not hang up must not keep the answer.
"""

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
    """

    def __init__(self, chunks: AsyncIterator[bytes], bounds: Bounds) -> None:
        self._chunks = chunks
        self._bounds = bounds
        self._until: float | None = None
        self.plain = False
        self.noise = 0

    def linger(self, seconds: float) -> None:
        """The answer is complete: wait no longer than this for what else comes."""
        until = asyncio.get_running_loop().time() + seconds
        self._until = until if self._until is None else min(until, self._until)

    async def records(self) -> AsyncGenerator[object]:
        """Yield each JSON value; None for a sign of life and for what is no JSON among events.

        Raises:
            ProviderError: the body is too large, or it is no stream and no JSON.
        """
        parser, events, size = EventParser(), 0, 0
        whole: list[bytes] = []
        begun = False
        async for chunk in self._arriving():
            size += len(chunk)
            if not begun:
                whole.append(chunk)
                start = b"".join(whole).removeprefix(_BOM).lstrip()
                if size < len(_BOM) or not start:
                    self._check(size, self._bounds.plain, "a body")
                    continue
                begun, self.plain, whole = True, start[:1] in (b"{", b"[", b"<"), [start]
                chunk = start  # noqa: PLW2901
            elif self.plain:
                whole.append(chunk)
            if self.plain:
                self._check(size, self._bounds.plain, "a body")
                continue
            self._check(size, self._bounds.body, "a stream")
            for data in parser.feed(chunk):
                events += 1
                self._check(events, self._bounds.events, "events")
                if data.strip() == _DONE:
                    self.linger(LINGER)
                else:
                    yield self._record(data)
        rest = b"".join(whole)
        if self.plain or (not begun and rest.strip()):  # two bytes or less are no stream
            self.plain = True
            yield self._value(rest)
            return
        for data in parser.end():
            if data.strip() != _DONE:
                yield self._record(data)

    async def _arriving(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._chunks)
        while True:
            try:
                if self._until is None:
                    chunk = await anext(chunks)
                else:
                    async with asyncio.timeout_at(self._until):
                        chunk = await anext(chunks)
            except (StopAsyncIteration, TimeoutError):
                return
            yield chunk

    def _record(self, data: bytes) -> object:
        if data == KEEP_ALIVE:
            return None
        try:
            return load(data)
        except ValueError:
            self.noise += 1
            return None

    def _value(self, data: bytes) -> object:
        try:
            return load(data)
        except ValueError:
            raise ProviderError(FailureKind.SERVER, "the provider sent something that is not JSON") from None

    def _check(self, taken: int, bound: int, what: str) -> None:
        if taken > bound:
            raise oversized(what)
