"""A server that plays a test's replies, byte for byte, on a real socket; and scripts of vendors' answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

Step = bytes | float
"""Bytes to send, or seconds to wait."""


@dataclass
class Reply:
    """One response.

    Attributes:
        steps: parts of the body, each sent as a chunk of its own, and pauses between them.
        status: HTTP status.
        content_type: value of the header ``content-type``.
        headers: further headers, which replace the common ones of the same name.
        reset: whether the connection is reset at the end instead of ending the body.
    """

    steps: Sequence[Step]
    status: int = 200
    content_type: str = "text/event-stream"
    headers: dict[str, str] = field(default_factory=dict)
    reset: bool = False


@dataclass
class Received:
    """A request: path, headers by lower-case name, and decoded body."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class ScriptedServer:
    """Plays its replies in order, and the last one for all further requests.

    Attributes:
        replies: replies still to be played.
        url: address of the server.
        requests: requests received.
        disconnected: event that is set when a client disconnects before its response is complete.
    """

    replies: list[Reply]
    url: str = ""
    requests: list[Received] = field(default_factory=list)
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            self.requests.append(await _receive(reader))
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            await self._play(reply, reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _play(self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers = {"content-type": reply.content_type, "transfer-encoding": "chunked", "connection": "close"}
        lines = [f"{name}: {value}" for name, value in {**headers, **reply.headers}.items()]
        writer.write("\r\n".join([f"HTTP/1.1 {reply.status} Scripted", *lines, "", ""]).encode())
        for step in reply.steps:
            if isinstance(step, bytes):
                writer.write(f"{len(step):x}\r\n".encode() + step + b"\r\n")
                await writer.drain()
            elif await _gone(reader, step):
                self.disconnected.set()
                return
        if reply.reset:
            writer.transport.abort()
        else:
            writer.write(b"0\r\n\r\n")
            await writer.drain()


@asynccontextmanager
async def scripted_server(*replies: Reply) -> AsyncIterator[ScriptedServer]:
    """Serves replies on a free loopback port."""
    script = ScriptedServer(list(replies))
    playing: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        playing.add(task)
        await script.handle(reader, writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=2**24)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield script
    finally:
        server.close()
        async with asyncio.timeout(5):
            await asyncio.gather(*playing)


@contextmanager
def scripted_server_thread(*replies: Reply) -> Iterator[ScriptedServer]:
    """Serves replies from a thread of its own, for code under test that runs an event loop itself."""
    started: queue.Queue[tuple[ScriptedServer, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def serve() -> None:
        stop = asyncio.Event()
        async with scripted_server(*replies) as script:
            started.put((script, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    script, loop, stop = started.get(timeout=10)
    try:
        yield script
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


async def _receive(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Received(first.split()[1], headers, json.loads(body or b"{}"))


async def _gone(reader: asyncio.StreamReader, seconds: float) -> bool:
    """Waits so many seconds, or until the client has closed the connection; tells whether it has."""
    try:
        async with asyncio.timeout(seconds):
            return await reader.read(1) == b""
    except TimeoutError:
        return False


# --- what vendors send --------------------------------------------------------------------------------


class OpenAIScript:
    """Answers of ``/chat/completions``."""

    def stream(self, *pieces: Step, reason: str | None = "stop", usage: bool = True) -> list[Step]:
        """Server-sent events; a float among the pieces is a pause."""
        steps: list[Step] = [_event(self._chunk({"role": "assistant", "content": ""}))]
        for piece in pieces:
            steps.append(
                piece if isinstance(piece, float) else _event(self._chunk({"content": piece.decode()}))
            )
        if reason:
            steps.append(_event(self._chunk({}, reason)))
            if usage:
                steps.append(_event({**self._chunk({}), "choices": [], "usage": self.usage}))
            steps.append(b"data: [DONE]\n\n")
        return steps

    def plain(self, text: str, reason: str | None = "stop") -> Reply:
        """One JSON answer."""
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
        body = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        return _json_reply(200, {**body, "usage": self.usage})

    def refusal(self) -> list[Step]:
        """The stream of a model that will not answer."""
        return [
            _event(self._chunk({"role": "assistant", "refusal": "I can't help with that."})),
            _event(self._chunk({}, "stop")),
            b"data: [DONE]\n\n",
        ]

    def error_event(self) -> bytes:
        """An overload inside a stream that began with 200."""
        return _event({"error": {"message": "busy, key sk-s3cr3t", "type": "overloaded_error", "code": None}})

    def error(self, status: int, kind: str, **headers: str) -> Reply:
        """A refusal."""
        error = {"message": "no: key sk-s3cr3t, prompt Blue mug", "type": kind, "code": None, "param": None}
        return _json_reply(status, {"error": error}, **headers)

    usage: ClassVar[dict[str, Any]] = {
        "prompt_tokens": 100,
        "completion_tokens": 7,
        "total_tokens": 107,
        "prompt_tokens_details": {"cached_tokens": 40},
    }

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [choice],
        }


class AnthropicScript:
    """Answers of ``/v1/messages``."""

    def stream(self, *pieces: Step, reason: str | None = "end_turn", usage: bool = True) -> list[Step]:
        """Server-sent events; a float among the pieces is a pause."""
        started = {"input_tokens": 60, "output_tokens": 1, "cache_read_input_tokens": 40}
        message = {
            "id": "m1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "usage": started,
        }
        block = {"type": "text", "text": ""}
        steps: list[Step] = [
            self._event(
                {"type": "message_start", "message": {**message, "usage": started if usage else None}}
            ),
            self._event({"type": "content_block_start", "index": 0, "content_block": block}),
            self._event({"type": "ping"}),
        ]
        for piece in pieces:
            if isinstance(piece, float):
                steps.append(piece)
            else:
                delta = {"type": "text_delta", "text": piece.decode()}
                steps.append(self._event({"type": "content_block_delta", "index": 0, "delta": delta}))
        if reason:
            ended = {"stop_reason": {"stop": "end_turn", "length": "max_tokens"}.get(reason, reason)}
            steps.append(self._event({"type": "content_block_stop", "index": 0}))
            final = {"output_tokens": 7} if usage else None
            steps.append(self._event({"type": "message_delta", "delta": ended, "usage": final}))
            steps.append(self._event({"type": "message_stop"}))
        return steps

    def plain(self, text: str, reason: str | None = "end_turn") -> Reply:
        """One JSON answer."""
        usage = {"input_tokens": 60, "output_tokens": 7, "cache_read_input_tokens": 40}
        body = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "usage": usage}
        return _json_reply(200, {**body, "content": [{"type": "text", "text": text}], "stop_reason": reason})

    def refusal(self) -> list[Step]:
        """The stream of a model that will not answer."""
        return self.stream(b"I can", reason="refusal")

    def error_event(self) -> bytes:
        """An overload inside a stream that began with 200."""
        error = {"type": "overloaded_error", "message": "overloaded, key sk-s3cr3t"}
        return self._event({"type": "error", "error": error})

    def error(self, status: int, kind: str, **headers: str) -> Reply:
        """A refusal."""
        error = {"type": kind, "message": "no: key sk-s3cr3t, prompt Blue mug"}
        return _json_reply(status, {"type": "error", "error": error, "request_id": "r1"}, **headers)

    def _event(self, data: dict[str, Any]) -> bytes:
        return f"event: {data['type']}\n".encode() + _event(data)


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


def _json_reply(status: int, body: dict[str, Any], **headers: str) -> Reply:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply([json.dumps(body).encode()], status, "application/json", names)
