"""Sends a finished answer, each token when it is due, or breaks off as a fault asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from service.simulator.accounting.ledger import LedgerEntry
from service.simulator.contracts import Reply, Wire
from service.simulator.faults import Fault
from service.simulator.latency_profiles import Schedule, Timing
from service.simulator.wire.connection import OpenResponse
from service.simulator.wire.reply_writer import reply_writer

_FOREVER = 86_400.0  # seconds that a black hole waits, longer than any client
_FLUSH = 0.01  # seconds before a connection is broken, in which the kernel sends what was written

_ERRORS = ("error_in_stream", "error_text")
_CUT_AT_HALF = ("reset_midstream", *_ERRORS, "truncated", "drip")


class BrokenOffError(Exception):
    """A fault has broken an answer off before its end."""


class Delivery:
    """Sends one answer.

    Args:
        wire: format to send it in.
        reply: finished answer.
        schedule: moments at which its tokens are due.
        fault: fault that the call met; None for a healthy one.
        response: HTTP response that carries the answer.
        entry: entry of the call in the ledger.

    Attributes:
        unbilled: whether the call is not billed, because the vendor itself reports an error.
    """

    def __init__(
        self,
        wire: Wire,
        reply: Reply,
        schedule: Schedule,
        fault: Fault | None,
        response: OpenResponse,
        entry: LedgerEntry,
    ) -> None:
        self._reply = reply
        self._schedule = schedule
        self._fault = fault.name if fault else None
        self._delay = fault.delay if fault else 0.0
        self._response = response
        self._entry = entry
        self._writer = reply_writer(wire, self._fault)
        self.unbilled = False

    async def run(self, headers: Mapping[str, str]) -> None:
        """Sends the answer, as far as the fault allows.

        Args:
            headers: headers of the response besides the content type and length.

        Raises:
            BrokenOffError: the fault ended it before its end.
        """
        if self._fault == "black_hole":
            await asyncio.sleep(_FOREVER)
        if self._fault == "reset":
            self._response.reset()
            raise BrokenOffError
        # Headers are sent before the first token is due, as vendors do.
        if self._reply.request.stream and not self._writer.at_once:
            await self._response.start({"content-type": "text/event-stream; charset=utf-8", **headers})
            await self._stream()
        else:
            await self._whole(headers)

    def made(self, now: float) -> int:
        """Counts the output tokens made at a time of the event loop's clock, sent or not."""
        tokens = len(self._reply.tokens)
        if self._entry.outcome in ("ok", "length"):
            return tokens
        return self._entry.tokens_sent if self._reply.request.stream else self._schedule.made(tokens, now)

    async def _whole(self, headers: Mapping[str, str]) -> None:
        """Sends a plain answer."""
        headers = {"content-type": "application/json", **headers}
        if self._fault == "drip":
            await self._response.start(headers)
            await self._drip(b" ")
        self.unbilled = self._fault in _ERRORS
        body = (self._writer.error_body if self.unbilled else self._writer.body)(self._reply)
        # The length stands in the header, so that a client notices a body that ends early.
        await self._response.start({**headers, "content-length": str(len(body))})
        pause = self._delay if self._fault == "stall" else 0.0
        await _sleep_until(self._schedule.end(len(self._reply.tokens)) + pause)
        if self._fault in ("reset_midstream", "truncated"):
            await self._response.write(body[: len(body) // 2])
            await self._break()
        await self._response.write(body, more=False)
        self._entry.tokens_sent = len(self._reply.tokens)
        self._entry.usage_sent = self._writer.reports_usage and not self.unbilled

    async def _stream(self) -> None:
        """Sends a streamed answer."""
        await self._send_tokens()
        if self._fault == "drip":
            await self._drip(b": still there\n\n")
        if self._fault in _ERRORS:
            await self._response.write(self._writer.error_event(self._reply), more=False)
            raise BrokenOffError
        if self._fault == "truncated":
            # The body ends as a whole one does, without finish reason.
            await self._response.write(b"", more=False)
            raise BrokenOffError
        if self._fault == "reset_midstream":
            await self._break()
        await self._response.write(self._writer.closing(self._reply), more=False)
        self._entry.usage_sent = self._reply.request.include_usage and self._writer.reports_usage

    async def _send_tokens(self) -> None:
        """Sends opening and tokens when they are due, up to the middle if the fault cuts them there."""
        reply, writer = self._reply, self._writer
        half = len(reply.tokens) // 2
        pieces = reply.tokens[: max(1, half)] if self._fault in _CUT_AT_HALF else reply.tokens
        opening = writer.opening(reply)
        async for due in self._due(pieces, half):
            await self._response.write(opening + b"".join(writer.piece(reply, token) for token in due))
            opening = b""
            self._entry.tokens_sent += len(due)
        if opening:  # an answer without a single token
            await _sleep_until(self._schedule.started + self._schedule.timing.first)
            await self._response.write(opening)

    async def _due(self, pieces: Sequence[str], half: int) -> AsyncIterator[Sequence[str]]:
        """Yields the pieces when they are due, with a pause after the first half if the answer stalls."""
        if self._fault != "stall":
            async for due in self._schedule.paced(pieces):
                yield due
            return
        async for due in self._schedule.paced(pieces[:half]):
            yield due
        each = self._schedule.timing.each
        # The second half has a schedule of its own, that begins after the pause.
        later = Schedule(Timing(self._delay + each, each), asyncio.get_running_loop().time())
        async for due in later.paced(pieces[half:]):
            yield due

    async def _drip(self, piece: bytes) -> None:
        """Sends a piece without meaning again and again, until the client leaves and this is cancelled."""
        while True:
            await asyncio.sleep(self._delay)
            await self._response.write(piece)

    async def _break(self) -> None:
        await asyncio.sleep(_FLUSH)
        if self._fault == "reset_midstream":
            self._response.reset()
        else:
            self._response.close()
        raise BrokenOffError


async def _sleep_until(moment: float) -> None:
    wait = moment - asyncio.get_running_loop().time()
    if wait > 0:
        await asyncio.sleep(wait)
