"""Runs a reverse proxy that sends requests to servers whose ``/health/ready`` is 200, and repeats none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from benchmarks.edge.http_connection import OK, HttpConnection, content_length

CHECK_SECONDS = 0.5
"""Seconds between two checks of a server."""
CHECK_TIMEOUT = 2.0
"""Seconds after which a check without an answer has failed."""
READY = b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"


class Backend:
    """A server behind the proxy, with its idle connections.

    Attributes:
        port: its TCP port.
        is_ready: whether the last check found it ready.
        requests: requests that it was sent.
    """

    def __init__(self, host: str, port: int) -> None:
        self.port = port
        self.is_ready = False
        self.requests = 0
        self._host = host
        self._idle: list[HttpConnection] = []

    async def ask(self, request: bytes) -> bytes:
        """Passes a request on and returns the response.

        Raises:
            OSError: no connection, or no answer on it.
        """
        self.requests += 1
        # The one that was used last is the least likely to be closed by now.
        connection = self._idle.pop() if self._idle else HttpConnection(self._host, self.port)
        response = await connection.ask(request)
        if connection.is_open:
            self._idle.append(connection)
        return response.raw

    async def check(self) -> None:
        """Asks whether it is ready, over a connection of its own."""
        connection = HttpConnection(self._host, self.port)
        outcome = await connection.outcome(READY, CHECK_TIMEOUT)
        await connection.close()
        self.is_ready = outcome == OK
        if not self.is_ready:
            await self.close()

    async def close(self) -> None:
        """Closes the idle connections."""
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.close()


class HealthProxy:
    """The proxy; made by ``running_proxy``.

    Attributes:
        port: TCP port that it listens on.
        backends: servers behind it.
    """

    def __init__(self, backends: Sequence[Backend]) -> None:
        self.port = 0
        self.backends = list(backends)
        self._next = 0
        self._checked = asyncio.Condition()

    async def ready(self, count: int) -> None:
        """Waits until so many servers are ready."""
        async with self._checked:
            await self._checked.wait_for(lambda: sum(each.is_ready for each in self.backends) >= count)

    async def watch(self) -> None:
        """Checks all servers for ever."""
        while True:
            await asyncio.gather(*(backend.check() for backend in self.backends))
            async with self._checked:
                self._checked.notify_all()
            await asyncio.sleep(CHECK_SECONDS)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the requests of one client, one after the other."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(content_length(head.lower()))
                writer.write(await self._answer(head + body))
                await writer.drain()
        writer.close()

    async def _answer(self, request: bytes) -> bytes:
        ready = [backend for backend in self.backends if backend.is_ready]
        if not ready:
            return BAD_GATEWAY
        self._next += 1
        try:
            raw = await ready[self._next % len(ready)].ask(request)
        except OSError:
            return BAD_GATEWAY
        # Between the proxy and its server; the client's connection is kept.
        return raw.replace(b"connection: close\r\n", b"", 1)


@asynccontextmanager
async def running_proxy(host: str, ports: Sequence[int]) -> AsyncIterator[HealthProxy]:
    """Runs a proxy before the servers on these ports until the block ends."""
    proxy = HealthProxy([Backend(host, port) for port in ports])
    server = await asyncio.start_server(proxy.serve, host, 0)
    proxy.port = server.sockets[0].getsockname()[1]
    watching = asyncio.create_task(proxy.watch())
    try:
        yield proxy
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        server.close()
        for backend in proxy.backends:
            await backend.close()
