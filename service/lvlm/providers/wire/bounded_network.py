"""The network under the SDKs' HTTP client, bounded: heads, and bodies as they are packed.

An HTTP library reads a head, informational responses and an error's body for as long as a server sends them.
Here each has a size, and what is compressed is inflated piece by piece.
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
from service.lvlm.providers.wire.size_limits import KIB, MIB, PAUSE, oversized

HEAD = 64 * KIB
"""Bytes before a body begins: informational responses and the head."""

ERROR_BODY = 64 * KIB
"""Bytes read of an error's body: type, code and message stand at its beginning."""

LARGEST = 256 * MIB
"""Bytes of any other body, sent or inflated: a batch's results may be so large; calls are bounded closer."""

PIECE = 64 * KIB
"""Bytes inflated at once."""

READ = 64 * KIB
"""Bytes taken from a socket at once."""

RECEIVE_BUFFER = 128 * KIB
"""Bytes that the system keeps of what was sent and not read.

libuv empties a socket for up to 2 MiB before it lets the reader say that this is enough: a flood over four
connections would take 20 MB for that alone.
"""

HEAD_SLICE, BODY_SLICE = KIB // 2, 4 * KIB
"""Bytes of them that are parsed at once, of a head and of a body: a flood never holds the loop for long.

Heads go in smaller slices, since a byte of them costs more time: 512 may be twenty informational responses.
"""

HEAD_BURST, BODY_BURST = 4 * KIB, 64 * KIB
"""Bytes of a head, and of a body, beyond which what comes faster than it is read is a flood."""


class BoundedStream(httpcore2.AsyncNetworkStream):
    """One connection, which is closed when a head has no end."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        self._head_left: int | None = HEAD
        self._taken, self._given = b"", 0  # from the socket, and how much of it has been handed on
        self._burst = HEAD_BURST

    def head_ended(self) -> None:
        """A head has been read: what follows is a body."""
        self._head_left = None
        self._burst = BODY_BURST

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """See AsyncNetworkStream.

        Raises:
            ProviderError: a head has no end.
        """
        if self._given < len(self._taken):  # nothing is waited for: leave the loop to others
            await asyncio.sleep(0 if self._burst > 0 else PAUSE)
        else:
            self._taken, self._given = await self._stream.read(READ, timeout), 0
        size = min(max_bytes, BODY_SLICE if self._head_left is None else HEAD_SLICE)
        data = self._taken[self._given : self._given + size]
        self._given += len(data)
        self._burst -= len(data)
        if self._head_left is not None:
            self._head_left -= len(data)
            if self._head_left < 0:
                raise oversized("a head")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """See AsyncNetworkStream; what is read next is another head.

        Raises:
            ProviderError: the server sent more than its last answer, so that it and we have lost step.
        """
        if self._given < len(self._taken):
            raise ProviderError(FailureKind.CONNECTION, "the provider sent more than its answer")
        self._head_left, self._burst = HEAD, HEAD_BURST
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
    """Opens connections through another backend and bounds them."""

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
        stream: the body as it was sent.
        encoding: the ``Content-Encoding``.
        limit: bytes, sent or inflated.
        cut: end the body at the limit instead of raising.
    """

    def __init__(self, stream: httpx2.AsyncByteStream, encoding: str, limit: int, *, cut: bool) -> None:
        self._stream = stream
        encoding = encoding.strip().lower()
        self._inflate = None if encoding in ("", "identity") else _Inflate(encoding)
        self._limit = limit
        self._cut = cut

    async def __aiter__(self) -> AsyncIterator[bytes]:
        sent = given = 0
        async for chunk in self._stream:
            sent += len(chunk)
            for piece in self._inflate(chunk) if self._inflate else (chunk,):
                given += len(piece)
                yield piece
                if given > self._limit or sent > self._limit:
                    if self._cut:
                        return
                    raise oversized("a body")
            if sent > self._limit:  # and nothing came of it
                raise oversized("a body")

    async def aclose(self) -> None:
        """See AsyncByteStream."""
        await self._stream.aclose()


class _Inflate:
    """Undoes a content encoding, at most ``PIECE`` bytes at a time."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._zlib = self._fresh()

    def __call__(self, data: bytes) -> Iterator[bytes]:
        if self._encoding not in ("gzip", "x-gzip", "deflate"):
            raise ProviderError(
                FailureKind.SERVER, "the provider compressed its answer in a way that was not asked for"
            )
        piece = b""
        while data or len(piece) == PIECE:
            try:
                piece = self._zlib.decompress(data, PIECE)
            except zlib.error:
                raise ProviderError(FailureKind.SERVER, "the compressed answer is damaged") from None
            data = self._zlib.unconsumed_tail
            if self._zlib.eof:  # a gzip file may have another member
                data = self._zlib.unused_data
                self._zlib = self._fresh()
            if piece:
                yield piece

    def _fresh(self) -> Any:
        return zlib.decompressobj(wbits=47)  # a zlib or a gzip head, whichever comes


async def bound_response(response: httpx2.Response) -> None:
    """Bound what is still to be read of a response: a hook of the HTTP client."""
    connection = response.extensions.get("network_stream")
    if isinstance(connection, BoundedStream):
        connection.head_ended()
    refused = not response.is_success
    encoding = response.headers.pop("content-encoding", "")
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = BoundedBody(response.stream, encoding, ERROR_BODY if refused else LARGEST, cut=refused)


def bound_connections(client: httpx2.AsyncClient) -> None:
    """Bound every connection that a client will open, direct or through a proxy."""
    # httpx2 hands no network backend through to its pools; a test of each kind of flood holds this to work.
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx2.AsyncHTTPTransport):
            pool = transport._pool
            pool._network_backend = BoundedBackend(pool._network_backend)
