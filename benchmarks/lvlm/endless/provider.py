"""Runs a provider that never ends its answers: ``python -m benchmarks.lvlm.endless.provider PORT``.

It serves OpenAI's and Anthropic's paths. A model ``KIND.FRAMING.anything`` chooses what is sent without end
(``KINDS``), and whether in chunks or until the connection closes; ``good`` is a whole answer, for comparison.
It writes as fast as the client reads, at a low priority, for a minute at most, and stops when the client
leaves. ``GET /`` returns the bytes sent and the number of connections that are being written to.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

MAX_SECONDS = 60.0
"""Seconds after which one answer is broken off, so that a service that would read it for ever goes on."""
BLOCK = 16_384
"""Number of bytes, about, that are written at once."""
INFLATED = 2**20
"""Number of bytes that one compressed block inflates to."""
NICE = 10
"""Increment of this process's niceness, so that the service and its clients get the processor first."""

SSE, JSON = "text/event-stream", "application/json"
FRAMINGS = ("chunked", "close")
ANTHROPIC_PATH = "/v1/messages"

GOOD = "good"
_ANSWER = '{"ranking": ["C", "A", "B"]}'

_OPENAI: Mapping[str, dict[str, Any]] = {
    "text": {"id": "c", "choices": [{"index": 0, "delta": {"content": "x" * 64}, "finish_reason": None}]},
    "thoughts": {"id": "c", "choices": [{"index": 0, "delta": {"reasoning_content": "hm " * 20}}]},
    "events": {},
}
_ANTHROPIC: Mapping[str, dict[str, Any]] = {
    "text": {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x" * 64}},
    "thoughts": {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "thinking_delta", "thinking": "hm " * 20},
    },
    "events": {"type": "ping"},
}
_OPENAI_BODY = b'{"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": "'
_ANTHROPIC_BODY = b'{"id": "m", "type": "message", "content": [{"type": "text", "text": "'
_ERROR = b'{"error": {"type": "api_error", "message": "'


@dataclass(frozen=True)
class EndlessResponse:
    """A response: some bytes at the beginning, then the same block without end.

    Attributes:
        first: bytes at the beginning of the body.
        block: bytes that are repeated; empty for a response that ends.
        content_type: ``Content-Type`` of the response.
        status: HTTP status of the response.
        encoding: ``Content-Encoding`` of the response; empty for none.
        head: whether the block repeats before the body, as header lines or as responses of their own.
    """

    first: bytes
    block: bytes
    content_type: str = SSE
    status: int = 200
    encoding: str = ""
    head: bool = False


def _events(anthropic: bool, name: str) -> EndlessResponse:
    content = (_ANTHROPIC if anthropic else _OPENAI)[name]
    event = b"data: " + json.dumps(content).encode() + b"\n\n"
    if anthropic:
        event = f"event: {content['type']}\n".encode() + event
    # Many events in one block: one write per event would be slower than the client.
    return EndlessResponse(b"", event * (BLOCK // len(event)))


def _body(anthropic: bool) -> EndlessResponse:
    return EndlessResponse(_ANTHROPIC_BODY if anthropic else _OPENAI_BODY, b"x" * BLOCK, JSON)


def _compressed(flow: EndlessResponse) -> EndlessResponse:
    """Compresses the body as gzip.

    After a full flush the compressor refers to nothing before it, so a compressed block can be repeated.
    """
    packer = zlib.compressobj(level=9, wbits=31)  # 31: a gzip header and trailer
    # The head of the gzip stream and what comes once.
    first = packer.compress(flow.first) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = packer.compress(flow.block * (INFLATED // len(flow.block))) + packer.flush(zlib.Z_FULL_FLUSH)
    return EndlessResponse(first, packed, flow.content_type, flow.status, "gzip")


def _error(status: int) -> EndlessResponse:
    return EndlessResponse(_ERROR, b"x" * BLOCK, JSON, status)


def _good(anthropic: bool, stream: bool) -> EndlessResponse:
    """Makes a whole answer, with which the endless ones are compared."""
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    choice = {"index": 0, "finish_reason": "stop"}
    content = {"role": "assistant", "content": _ANSWER}
    said: list[dict[str, Any]] = [
        {"id": "c", "choices": [{**choice, "delta": content}]},
        {"id": "c", "choices": [], "usage": usage},
    ]
    whole: dict[str, Any] = {"id": "c", "choices": [{**choice, "message": content}], "usage": usage}
    if anthropic:
        usage = {"input_tokens": 100, "output_tokens": 10}
        text = {"type": "text_delta", "text": _ANSWER}
        said = [
            {"type": "message_start", "message": {"id": "m", "content": [], "usage": usage}},
            {"type": "content_block_delta", "index": 0, "delta": text},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
            {"type": "message_stop"},
        ]
        blocks = [{"type": "text", "text": _ANSWER}]
        whole = {"id": "m", "type": "message", "content": blocks, "stop_reason": "end_turn", "usage": usage}
    if not stream:
        return EndlessResponse(json.dumps(whole).encode(), b"", JSON)
    return EndlessResponse(b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in said), b"")


Kind = Callable[[bool, bool], EndlessResponse]
"""Function from whether the format is Anthropic's, and whether a stream was asked for, to the response."""

KINDS: Mapping[str, Kind] = {
    "text": lambda anthropic, _: _events(anthropic, "text"),
    "thoughts": lambda anthropic, _: _events(anthropic, "thoughts"),
    "events": lambda anthropic, _: _events(anthropic, "events"),
    "event": lambda *_: EndlessResponse(b"data: ", b"x" * BLOCK),
    "comments": lambda *_: EndlessResponse(b"", b": still at it\n\n" * (BLOCK // 15)),
    # A status line and then header lines without end: the client never sees a body.
    "head": lambda *_: EndlessResponse(
        b"HTTP/1.1 200 OK\r\n", b"x-more: more\r\n" * (BLOCK // 14), head=True
    ),
    # 103 responses may come in any number before the final one (RFC 9110, section 15.2).
    "informational": lambda *_: EndlessResponse(
        b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * (BLOCK // 28), head=True
    ),
    "compressed": lambda anthropic, stream: _compressed(
        _events(anthropic, "text") if stream else _body(anthropic)
    ),
    "compressed-error": lambda *_: _compressed(_error(500)),
    "plain": lambda anthropic, _: _body(anthropic),
    "error-500": lambda *_: _error(500),
    "error-400": lambda *_: _error(400),
}


class Server:
    """Answers without end, and counts what it sends.

    Attributes:
        sent: bytes of bodies so far.
        answering: number of connections that are being written to.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.answering = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request, until its client leaves or ``MAX_SECONDS`` seconds have passed."""
        self.answering += 1
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                method, path, body = await _request(reader)
                if method == "GET":
                    self.answering -= 1  # this connection is not counted
                    state = json.dumps({"sent": self.sent, "answering": self.answering}).encode()
                    self.answering += 1
                    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(state)}\r\nconnection: close\r\n\r\n"
                    writer.write(head.encode() + state)
                    await writer.drain()
                    return
                kind, framing, *_ = str(body.get("model")).split(".")
                flow = {GOOD: _good, **KINDS}[kind](path.startswith(ANTHROPIC_PATH), bool(body.get("stream")))
                await self._flow(writer, flow, chunked=framing == "chunked" and not flow.head)
                if not flow.block:
                    writer.close()
                    await writer.wait_closed()
        finally:
            self.answering -= 1
            writer.transport.abort()  # what is still in the buffer would go on for a while

    async def _flow(self, writer: asyncio.StreamWriter, flow: EndlessResponse, *, chunked: bool) -> None:
        if not flow.head:
            lines = [f"HTTP/1.1 {flow.status} Endless", f"content-type: {flow.content_type}"]
            lines += [f"content-encoding: {flow.encoding}"] if flow.encoding else []
            lines += ["transfer-encoding: chunked" if chunked else "connection: close"]
            writer.write("\r\n".join([*lines, "", ""]).encode())
        if flow.first:
            writer.write(_framed(flow.first, chunked))
            self.sent += len(flow.first)
        if not flow.block:
            writer.write(b"0\r\n\r\n" if chunked else b"")
            await writer.drain()
            return
        block, end = _framed(flow.block, chunked), time.monotonic() + MAX_SECONDS
        while time.monotonic() < end:
            writer.write(block)
            await writer.drain()
            self.sent += len(block)
            await asyncio.sleep(0)  # drain() does not yield to the loop while the buffer is below its mark


def _framed(data: bytes, chunked: bool) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if chunked else data


async def _request(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, Any]]:
    """Reads a request: method, path and the JSON of the body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    method, path, _ = head.split(" ", 2)
    fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    body = await reader.readexactly(int(fields.get("content-length", 0)))
    return method, path, json.loads(body or b"{}")


async def main(port: int) -> None:
    """Serves until it is stopped."""
    # At normal priority it would take processor time from the service that is measured.
    os.nice(NICE)
    # The limit of the reader's buffer: a request's body holds pictures.
    server = await asyncio.start_server(Server().serve, "127.0.0.1", port, limit=2**24)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
