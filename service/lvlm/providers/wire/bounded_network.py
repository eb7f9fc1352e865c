"""Bounds the sizes of response heads and bodies under the SDKs' HTTP client.

An HTTP library reads a head, informational (1xx) responses and an error's body for as long as a server sends
them. Here each has a largest size, and compressed bodies are inflated piece by piece. Sizes of streamed
events are bounded in ``response_body``.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import httpcore2
import httpx2

from service.lvlm.providers.base import FailureKind, ProviderError
from service.lvlm.providers.wire.size_limits import FLOOD_PAUSE, KIB, MIB, oversized

MAX_HEAD = 64 * KIB
"""Bytes of the head and all informational responses before it; more of them end the attempt as oversized."""

MAX_ERROR_BODY = 64 * KIB
"""Bytes read of an error's body, which holds type, code and message at its beginning; the rest is cut off."""

MAX_BODY = 256 * MIB
"""Bytes of any other body, received or inflated; more of them end the attempt as oversized.

A batch's results may be so large. Calls have closer limits (``size_limits.Bounds``).
"""

INFLATE_SIZE = 64 * KIB
"""Bytes inflated at once, so that a small chunk cannot become a large one in memory."""

READ_SIZE = 64 * KIB
"""Bytes taken from a socket at once."""

RECEIVE_BUFFER = 128 * KIB
"""Bytes of the system's receive buffer of each connection.

libuv (under uvloop) empties a socket for up to 2 MiB before it lets its reader pause: without this limit a
flood over four connections takes 20 MB.
"""

HEAD_SLICE, BODY_SLICE = KIB // 2, 4 * KIB
"""Bytes parsed at once, of a head and of a body, before other tasks get the event loop.

Slices of heads are smaller, since a byte of them takes more time: 512 bytes may be twenty informational
responses.
"""

HEAD_BURST, BODY_BURST = 4 * KIB, 64 * KIB
"""Bytes of a head, and of a body, after which data that arrives faster than it is read is slowed down."""


class BoundedStream(httpcore2.AsyncNetworkStream):
    """One connection that hands out what it received in slices, and fails when a head exceeds its limit."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        self._head_left: int | None = MAX_HEAD  # bytes that the head may still have; None in a body
        self._buffer, self._offset = b"", 0  # bytes from the socket, and how many of them were handed out
        self._burst = HEAD_BURST  # bytes until pauses begin

    def head_ended(self) -> None:
        """Ends the limit on the head, which has been read: a body follows."""
        self._head_left = None
        self._burst = BODY_BURST

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """See AsyncNetworkStream.

        Raises:
            ProviderError: a head exceeds its limit.
        """
        # A read from the buffer would not suspend, so a flood would keep the event loop from other tasks.
        if self._offset < len(self._buffer):
            await asyncio.sleep(0 if self._burst > 0 else FLOOD_PAUSE)
        else:
            self._buffer, self._offset = await self._stream.read(READ_SIZE, timeout), 0
        size = min(max_bytes, BODY_SLICE if self._head_left is None else HEAD_SLICE)
        data = self._buffer[self._offset : self._offset + size]
        self._offset += len(data)
        self._burst -= len(data)
        if self._head_left is not None:
            self._head_left -= len(data)
            if self._head_left < 0:
                raise oversized("a head")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """See AsyncNetworkStream; the next read is of another head.

        Raises:
            ProviderError: the server sent more than its last answer, so that the rest would be taken for the
                answer to this request.
        """
        if self._offset < len(self._buffer):
            raise ProviderError(FailureKind.CONNECTION, "the provider sent more than its answer")
        self._head_left, self._burst = MAX_HEAD, HEAD_BURST
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """See AsyncNetworkStream."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        """See AsyncNetworkStream."""
        return BoundedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """See AsyncNetworkStream."""
        return self._stream.get_extra_info(info)


class BoundedBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections through another backend and wraps each in a ``BoundedStream``."""

    def __init__(self, backend: httpcore2.AsyncNetworkBackend) -> None:
        self._backend = backend

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """See AsyncNetworkBackend."""
        options = [*(socket_options or ()), (socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)]
        return BoundedStream(await self._backend.connect_tcp(host, port, timeout, local_address, options))

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """See AsyncNetworkBackend."""
        return BoundedStream(await self._backend.connect_unix_socket(path, timeout, socket_options))

    async def sleep(self, seconds: float) -> None:
        """See AsyncNetworkBackend."""
        await self._backend.sleep(seconds)


class BoundedBody(httpx2.AsyncByteStream):
    """A response's body, inflated and bounded.

    Args:
        stream: body as it is received.
        encoding: value of the header ``Content-Encoding``; empty for none.
        limit: bytes of the body at most, received or inflated.
        truncate: whether the body ends at the limit; otherwise reading on raises a ProviderError.
    """

    def __init__(self, stream: httpx2.AsyncByteStream, encoding: str, limit: int, *, truncate: bool) -> None:
        self._stream = stream
        encoding = encoding.strip().lower()
        self._inflate = None if encoding in ("", "identity") else _Inflate(encoding)
        self._limit = limit
        self._truncate = truncate

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = yielded = 0
        async for chunk in self._stream:
            received += len(chunk)
            for piece in self._inflate(chunk) if self._inflate else (chunk,):
                yielded += len(piece)
                yield piece
                if yielded > self._limit or received > self._limit:
                    if self._truncate:
                        return
                    raise oversized("a body")
            if received > self._limit:  # a compressed body that inflates to nothing
                raise oversized("a body")

    async def aclose(self) -> None:
        """See AsyncByteStream."""
        await self._stream.aclose()


class _Inflate:
    """Inflates a body chunk by chunk, at most ``INFLATE_SIZE`` bytes at a time."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._zlib = self._decompressor()

    def __call__(self, data: bytes) -> Iterator[bytes]:
        if self._encoding not in ("gzip", "x-gzip", "deflate"):
            raise ProviderError(
                FailureKind.SERVER, "the provider compressed its answer in a way that was not asked for"
            )
        piece = b""
        # A full piece may mean that zlib holds more output, also when no input is left.
        while data or len(piece) == INFLATE_SIZE:
            try:
                piece = self._zlib.decompress(data, INFLATE_SIZE)
            except zlib.error:
                raise ProviderError(FailureKind.SERVER, "the compressed answer is damaged") from None
            data = self._zlib.unconsumed_tail
            if self._zlib.eof:  # a gzip body may have several members (RFC 1952, section 2.2)
                data = self._zlib.unused_data
                self._zlib = self._decompressor()
            if piece:
                yield piece

    def _decompressor(self) -> Any:
        return zlib.decompressobj(wbits=47)  # 32 + 15: a zlib or a gzip header, and the largest window


async def bound_response(response: httpx2.Response) -> None:
    """Bounds the body of a response whose head has been read; a response hook of the HTTP client."""
    connection = response.extensions.get("network_stream")
    if isinstance(connection, BoundedStream):
        connection.head_ended()
    refused = not response.is_success
    encoding = response.headers.pop("content-encoding", "")  # else httpx would inflate it again
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = BoundedBody(
        response.stream, encoding, MAX_ERROR_BODY if refused else MAX_BODY, truncate=refused
    )


def bound_connections(client: httpx2.AsyncClient) -> None:
    """Bounds every connection that a client will open, direct or through a proxy."""
    # httpx2 has no argument for the network backend, hence its private attributes; tests send each kind of
    # flood and would fail if a new version ignored these.
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx2.AsyncHTTPTransport):
            pool = transport._pool
            pool._network_backend = BoundedBackend(pool._network_backend)
