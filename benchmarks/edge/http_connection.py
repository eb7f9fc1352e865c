"""Sends requests over one kept HTTP/1.1 connection, and says exactly how one failed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

OK, REFUSED, RESET, HUNG = "answered", "refused", "reset", "hung"
"""Words for what became of a request: answered with 200, no connection, a connection that ended without an
answer, no answer in time. Another status is its number."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response as it came.

    Attributes:
        status: status code.
        raw: head and body.
        last: whether the connection ends with it.
    """

    status: int
    raw: bytes
    last: bool


class HttpConnection:
    """A connection to one server, which is opened when it is needed.

    Args:
        host: address of the server.
        port: TCP port of the server.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the next request can go over the same connection."""
        return self._streams is not None and not self._streams[0].at_eof()

    async def ask(self, request: bytes) -> Response:
        """Sends a request and returns its response; only a connection that is closed already is opened anew.

        Raises:
            ConnectionRefusedError: the server takes no connection.
            ConnectionError: the connection ended before the whole response came.
        """
        if not self.is_open:
            await self.close()
            self._streams = await asyncio.open_connection(self._host, self._port)
        assert self._streams is not None
        reader, writer = self._streams
        try:
            writer.write(request)
            response = await read_response(reader)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError) as error:
            self._drop()
            if isinstance(error, asyncio.IncompleteReadError):
                raise ConnectionResetError("the connection ended without an answer") from error
            raise
        if response.last:
            await self.close()
        return response

    async def outcome(self, request: bytes, seconds: float) -> str:
        """Sends a request and returns what became of it, in words; it hangs after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                status = (await self.ask(request)).status
        except ConnectionRefusedError:
            return REFUSED
        except TimeoutError:  # before OSError, of which it is one
            return HUNG
        except OSError:
            return RESET
        return OK if status == 200 else str(status)

    async def close(self) -> None:
        """Closes the connection."""
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            writer.close()
            with suppress(OSError):  # reset by the server in the meantime
                await writer.wait_closed()

    def _drop(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def read_response(reader: asyncio.StreamReader) -> Response:
    """Reads a response with a Content-Length.

    Raises:
        asyncio.IncompleteReadError: the connection ended before.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    fields = head.lower()
    body = await reader.readexactly(content_length(fields))
    return Response(int(head.split(b" ", 2)[1]), head + body, b"\r\nconnection: close" in fields)


def content_length(head: bytes) -> int:
    """Returns the length of the body in bytes, from a head in lower case; 0 without one."""
    _, found, rest = head.partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0
