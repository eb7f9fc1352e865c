"""A provider that sends without end: its attempt ends by itself, and little of what it sent is kept.

Real sockets; the server sends until its client leaves. ``python -m benchmarks endless`` has the memory of a
whole service under such providers.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpcore2
import httpx2
import pytest
from lvlm_parts import connect

from service.lvlm.providers.base import (
    Alive,
    Call,
    Event,
    FailureKind,
    Prompt,
    ProviderError,
    Text,
    TextDelta,
)
from service.lvlm.providers.wire.bounded_network import RECEIVE_BUFFER, BoundedBackend
from service.lvlm.providers.wire.size_limits import MIB, Bounds

TOKENS = 64
CALL = Call(Prompt("Rank.", (Text("data"),), None, "test-1"), "m", TOKENS)
OK = b"HTTP/1.1 200 OK\r\n"
SSE = OK + b"content-type: text/event-stream\r\n\r\n"
JSON = OK + b"content-type: application/json\r\n\r\n"
DELTA = b'data: {"choices": [{"delta": {"content": "%s"}}], "type": "content_block_delta"}\n\n'
BLOCK = b'data: {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "%s"}}\n\n'
ZEROS = gzip.compress(bytes(64 * MIB))


class Endless:
    """A server that sends a beginning, and then the same again and again.

    Attributes:
        sent: bytes that it got rid of.
        left: set when its client has gone.
    """

    def __init__(self, beginning: bytes, again: bytes) -> None:
        self.beginning, self.again = beginning, again
        self.sent = 0
        self.left = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.beginning)
            while True:
                writer.write(self.again)
                await writer.drain()
                self.sent += len(self.again)
        except ConnectionError:
            pass
        finally:
            writer.close()
            self.left.set()


@asynccontextmanager
async def endless(beginning: bytes, again: bytes) -> AsyncIterator[Endless]:
    server = Endless(beginning, again)
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        yield server


async def attempt(
    wire: str, server: Endless, call: Call = CALL, take: Callable[[Event], None] | None = None
) -> ProviderError:
    provider = connect(wire, server.url)

    async def listen() -> None:
        async with asyncio.timeout(60):
            async for event in provider.stream(call):
                if take:
                    take(event)

    with pytest.raises(ProviderError) as caught:
        await listen()
    async with asyncio.timeout(60):
        await server.left.wait()
    await provider.close()
    return caught.value


FLOODS = {
    "text": (SSE, DELTA % (b"a" * 100)),
    "text without a finish in one event": (SSE + b"data: ", b"a" * 1000),
    "an event of many lines": (SSE, b"data: a\n"),
    "events": (SSE, b"data: {}\n\n" * 100),
    "comments": (SSE, b": still at it\n\n" * 100),
    "lines that mean nothing": (SSE, b"retry: 1\n\n" * 100),
    "a head": (OK, b"x-a: " + b"b" * 1000 + b"\r\n"),
    "a line of a head": (OK + b"x-a: ", b"b" * 1000),
    "informational responses": (b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 50),
    "a plain body": (JSON + b"{", b'"a": 1, ' * 100),
    "a plain body of white space": (JSON, b" \n" * 500),
    "an inflated stream": (OK + b"content-encoding: gzip\r\n\r\n" + gzip.compress(b"data: ", 1), ZEROS),
    "an inflated plain body": (OK + b"content-encoding: gzip\r\n\r\n" + gzip.compress(b"{", 1), ZEROS),
}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize(("beginning", "again"), FLOODS.values(), ids=FLOODS.keys())
async def test_what_has_no_end_is_given_up(beginning: bytes, again: bytes, stream: bool) -> None:
    async with endless(beginning, again) as server:
        error = await attempt("openai", server, Call(CALL.prompt, "m", TOKENS, stream=stream))
        # What the sockets hold is on the way, and not read.
        assert server.sent <= Bounds.of(CALL).body + 16 * MIB + len(again)
    # An HTTP library has its own word for a head that it gives up itself.
    assert error.kind in (FailureKind.OVERSIZED, FailureKind.CONNECTION)


async def test_anthropics_text_without_end_is_given_up() -> None:
    async with endless(SSE, BLOCK % (b"a" * 100)) as server:
        assert (await attempt("anthropic", server)).kind is FailureKind.OVERSIZED


@pytest.mark.parametrize("status", [400, 429, 500])
async def test_of_an_error_without_end_the_status_is_read(status: int) -> None:
    head = f"HTTP/1.1 {status} No\r\ncontent-type: application/json\r\n\r\n".encode()
    async with endless(head, b'{"error": {"type": "x"}}' * 100) as server:
        error = await attempt("openai", server)
    expected = {400: FailureKind.REQUEST, 429: FailureKind.RATE_LIMITED, 500: FailureKind.SERVER}
    assert error.kind is expected[status]


async def test_an_error_whose_compressed_body_has_no_end_keeps_its_status() -> None:
    async with endless(b"HTTP/1.1 503 No\r\ncontent-encoding: gzip\r\n\r\n", ZEROS) as server:
        assert (await attempt("openai", server)).kind is FailureKind.OVERLOADED


async def test_no_more_text_is_passed_on_than_an_answer_takes() -> None:
    text: list[str] = []
    async with endless(SSE, DELTA % (b"a" * 1000)) as server:
        await attempt(
            "openai", server, take=lambda e: text.append(e.text) if isinstance(e, TextDelta) else None
        )
    assert sum(map(len, text)) <= Bounds.of(CALL).text


async def test_a_flood_of_comments_is_few_signs_of_life() -> None:
    signs: list[Event] = []
    async with endless(SSE, b": still at it\n\n" * 1000) as server:
        await attempt("openai", server, take=lambda e: signs.append(e) if isinstance(e, Alive) else None)
    assert len(signs) <= Bounds.of(CALL).lines


@pytest.mark.parametrize("tokens", [64, 2_048, 32_768])
def test_every_answer_that_the_cap_allows_is_within_the_bounds(tokens: int) -> None:
    bounds = Bounds.of(Call(CALL.prompt, "m", tokens))
    event = json.dumps(
        {
            "id": "chatcmpl-" + "x" * 29,
            "object": "chat.completion.chunk",
            "created": 1_800_000_000,
            "model": "a-model-with-a-long-name-2026-11-01",
            "system_fingerprint": "fp_0123456789",
            "choices": [{"index": 0, "delta": {"content": "word"}, "logprobs": None, "finish_reason": None}],
            "usage": {"prompt_tokens": 1_000, "completion_tokens": 1_000, "total_tokens": 2_000},
            "obfuscation": "x" * 16,
        }
    )
    assert bounds.body > tokens * (len(event) + len("data: \n\n"))
    assert bounds.lines > 5 * tokens
    assert bounds.plain > tokens * 20
    assert bounds.text > tokens * 20


async def test_the_system_keeps_little_of_what_has_not_been_read() -> None:
    async with endless(SSE, b":\n\n") as server:
        address = httpx2.URL(server.url)
        stream = await BoundedBackend(httpcore2.AnyIOBackend()).connect_tcp(address.host, address.port or 0)
        try:
            kept = stream.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        finally:
            await stream.aclose()
    assert kept <= 2 * RECEIVE_BUFFER  # Linux doubles it for its own bookkeeping
