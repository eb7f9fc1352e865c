"""Sends a finished answer at its pace, or fails to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from starlette.types import Scope, Send

from service.simulator.connection import break_off, hang_up
from service.simulator.contracts import MARK, Allowance, Reply, Wire
from service.simulator.faults import Fault
from service.simulator.ledger import Call
from service.simulator.telling import telling
from service.simulator.timing import Timing, paced

_FOR_EVER = 86_400.0


class BrokenOffError(Exception):
    """A fault has ended the answer before its end."""


class Delivery:
    """One answer on its way.

    Args:
        reply: finished, though not sent.
        timing: when its tokens are due.
        started: the event loop's time when the call arrived.
        call: its entry in the ledger.
        send: of the request.
        scope: of the request.
        allowance: for the headers.

    Attributes:
        worthless: the vendor owns up to its fault, and bills nothing.
    """

    def __init__(
        self,
        wire: Wire,
        reply: Reply,
        timing: Timing,
        started: float,
        call: Call,
        send: Send,
        scope: Scope,
        allowance: Allowance,
    ) -> None:
        self._wire = wire
        self._reply = reply
        self._timing = timing
        self._started = started
        self._call = call
        self._send = send
        self._scope = scope
        self._allowance = allowance
        self._telling = telling(wire, None)
        self.worthless = False

    async def run(self, fault: Fault | None) -> None:
        """Send it, as far as the fault lets.

        Raises:
            BrokenOffError: it did not get to the end.
        """
        name = fault.name if fault else None
        if name == "black_hole":
            await asyncio.sleep(_FOR_EVER)
        if name == "reset":
            break_off(self._scope)
            raise BrokenOffError
        self._telling = telling(self._wire, name)
        if self._reply.ask.stream and not self._telling.at_once:
            await self._stream(name, fault.delay if fault else 0.0)
        else:
            await self._whole(name, fault.delay if fault else 0.0)

    def made(self, now: float) -> int:
        """Output tokens made by the event loop's time, sent or not."""
        if self._call.outcome in ("ok", "length"):
            return len(self._reply.tokens)
        if self._reply.ask.stream:
            return self._call.tokens_sent
        passed = now - self._started - self._timing.first
        if passed < 0:
            return 0
        due = len(self._reply.tokens) if self._timing.each <= 0 else 1 + int(passed / self._timing.each)
        return min(due, len(self._reply.tokens))

    async def _whole(self, fault: str | None, delay: float) -> None:
        reply = self._reply
        body = self._telling.body(reply)
        if fault in _ERRORS:
            body = self._telling.error_body(reply)
            self.worthless = True
        if fault == "drip":
            await self._start("application/json")
            while True:
                await asyncio.sleep(delay)
                await self._write(b" ", more=True)
        total = self._timing.total(len(reply.tokens))
        await self._start("application/json", length=len(body))  # who answers is known from the beginning
        await _until(self._started + total + (delay if fault == "stall" else 0.0))
        if fault in ("reset_midstream", "truncated"):
            await self._write(body[: len(body) // 2], more=True)
            await self._break(fault)
        await self._write(body, more=False)
        self._call.tokens_sent = len(reply.tokens)
        self._call.usage_sent = self._telling.tells_usage and not self.worthless

    async def _stream(self, fault: str | None, delay: float) -> None:
        reply, wire, call = self._reply, self._telling, self._call
        half = len(reply.tokens) // 2
        pieces = reply.tokens if fault not in _HALF_WAY else reply.tokens[: max(1, half)]
        opened = False
        await self._start("text/event-stream; charset=utf-8")  # who answers is known from the beginning
        async for due in self._due(pieces, fault, delay, half):
            events = b"".join(wire.piece(reply, token) for token in due)
            await self._write((b"" if opened else wire.opening(reply)) + events, more=True)
            opened = True
            call.tokens_sent += len(due)
        if not opened:  # an answer without a single token
            await _until(self._started + self._timing.first)
            await self._write(wire.opening(reply), more=True)
        if fault == "drip":
            while True:
                await asyncio.sleep(delay)
                await self._write(b": still there\n\n", more=True)
        if fault in _ERRORS:
            await self._write(wire.error_event(reply), more=False)
            raise BrokenOffError
        if fault == "truncated":
            await self._write(b"", more=False)
            raise BrokenOffError
        if fault == "reset_midstream":
            await self._break(fault)
        await self._write(wire.closing(reply), more=False)
        call.usage_sent = reply.ask.include_usage and wire.tells_usage

    async def _due(
        self, pieces: Sequence[str], fault: str | None, delay: float, half: int
    ) -> AsyncIterator[Sequence[str]]:
        if fault != "stall":
            async for due in paced(pieces, self._timing, self._started):
                yield due
            return
        async for due in paced(pieces[:half], self._timing, self._started):
            yield due
        later = Timing(delay + self._timing.each, self._timing.each)
        async for due in paced(pieces[half:], later, asyncio.get_running_loop().time()):
            yield due

    async def _break(self, fault: str) -> None:
        await asyncio.sleep(0.01)  # what was written goes out first
        (break_off if fault == "reset_midstream" else hang_up)(self._scope)
        raise BrokenOffError

    async def _start(self, content_type: str, length: int | None = None) -> None:
        seconds = asyncio.get_running_loop().time() - self._started
        headers = {
            "content-type": content_type,
            **self._wire.headers(self._reply.request_id, seconds, self._allowance),
            **MARK,
        }
        if length is not None:
            headers["content-length"] = str(length)
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})

    async def _write(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


_ERRORS = ("error_in_stream", "error_text")
_HALF_WAY = ("reset_midstream", *_ERRORS, "truncated", "drip")


async def _until(moment: float) -> None:
    wait = moment - asyncio.get_running_loop().time()
    if wait > 0:
        await asyncio.sleep(wait)
