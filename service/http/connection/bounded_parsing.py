"""Parses requests within limits of size: bytes and lines of the head, the URL, chunks, requests in advance.

httptools has no limits, and keeps a header line that does not end to itself.
"""

from __future__ import annotations

import asyncio
from typing import Any, Never

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service.http.connection.refusals import FRAMING, HEAD_SIZE, MALFORMED, PIPELINED, URL_SIZE, Refusal

MOST_HEAD_BYTES, MOST_HEAD_LINES, MOST_URL_BYTES = 32_768, 100, 8_192
"""Limits of a request's head; the refusals name them."""
MOST_CHUNKS = 16_384
"""Chunks of one body, each of which costs about as much as a header line."""
MOST_PIPELINED = 8
"""Requests of one connection that may wait for the answer to the one before."""


class Part:
    """Where in a message the parser is; plain numbers, as in ``Phase``."""

    BETWEEN, HEAD, BODY = range(3)


class RefusedRequestError(Exception):
    """What the client sends is refused.

    Attributes:
        refusal: why.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


class BoundedParsing(HttpToolsProtocol):
    """The half of the protocol that is called by the parser.

    Attributes:
        part: where in a message the parser is.
        held: bytes of the request under way, head and framing included.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.part = Part.BETWEEN
        self.held = 0
        self._refusal = MALFORMED
        # Bytes that came without completing a head; lines after a body; pieces of a body.
        self._head_bytes = self._trailers = self._chunks = 0

    def parse(self, data: bytes) -> None:
        """Parses what came, which calls the methods below.

        Raises:
            RefusedRequestError: it is no HTTP, or over a limit.
        """
        while data:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserError:
                raise RefusedRequestError(self._refusal) from None
            except httptools.HttpParserUpgrade as upgrade:
                # The offer of another protocol is not taken (RFC 9110, section 7.8): HTTP goes on.
                data = data[upgrade.args[0] :]
                if self.part == Part.BODY:
                    self.parser = _parser_of_body(self)
        if self.part == Part.HEAD:
            self.count_head(len(data))

    def count_head(self, count: int) -> None:
        """Counts bytes that have not completed a head: a line without an end, or blank lines before one.

        Raises:
            RefusedRequestError: there are too many of them.
        """
        self._head_bytes += count
        if self._head_bytes > MOST_HEAD_BYTES:
            raise RefusedRequestError(HEAD_SIZE)

    def on_url(self, url: bytes) -> None:
        """Refuses a URL that is too long."""
        self.part = Part.HEAD
        self.url += url
        if len(self.url) > MOST_URL_BYTES:
            self._stop(URL_SIZE)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Refuses too many header lines; trailers are dropped, as uvicorn has no place for them."""
        if self.part != Part.HEAD:
            self._trailers += 1
            if self._trailers > MOST_HEAD_LINES:
                self._stop(HEAD_SIZE)
            return
        if len(self.headers) >= MOST_HEAD_LINES:
            self._stop(HEAD_SIZE)
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Starts the request, unless its head is too large or too many wait before it."""
        # As long as less has come, its head is no larger.
        if self.held > MOST_HEAD_BYTES and self._head_size() > MOST_HEAD_BYTES:
            self._stop(HEAD_SIZE)
        if len(self.pipeline) >= MOST_PIPELINED:
            self._stop(PIPELINED)
        super().on_headers_complete()
        self.part = Part.BODY
        self._head_bytes = self._trailers = self._chunks = 0

    def on_body(self, body: bytes) -> None:
        """Hands a piece of the body on; refuses one in too many pieces."""
        self._chunks += 1
        if self._chunks > MOST_CHUNKS:
            self._stop(FRAMING)
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Ends the body, unless the parser only stops before it because another protocol was offered."""
        if self.parser.should_upgrade() and _framing(self.headers):
            return
        self.part = Part.BETWEEN
        super().on_message_complete()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _stop(self, refusal: Refusal) -> Never:
        """Stops the parser from within a callback."""
        self._refusal = refusal  # the parser raises an error of its own
        raise RefusedRequestError(refusal)


class _BodyCallbacks:
    """Callbacks of a parser whose first head is known already, and then those of the protocol."""

    def __init__(self, protocol: BoundedParsing) -> None:
        self._protocol = protocol
        self._known = True
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    def on_message_begin(self) -> None:
        if not self._known:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._known:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._known:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._known:
            self._protocol.on_headers_complete()
        self._known = False


def _parser_of_body(protocol: BoundedParsing) -> httptools.HttpRequestParser:
    """Returns a parser that goes on with the body of a request.

    httptools skips the body of a request that offers another protocol, as Java's client does with every one.
    """
    parser = httptools.HttpRequestParser(_BodyCallbacks(protocol))
    parser.feed_data(b"POST / HTTP/1.1\r\n" + _framing(protocol.headers) + b"\r\n")
    return parser


def _framing(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Returns the lines that announce a body; empty if there is none."""
    return b"".join(
        b"%b: %b\r\n" % (name, value)
        for name, value in headers
        if name in (b"content-length", b"transfer-encoding")
    )
