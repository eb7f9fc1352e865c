"""A small application behind the service's protocol, and clients that write single bytes to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from served import served
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from service.metrics import Metrics
from service.settings import Settings
from service.wiring.server import bounded_protocol

GET = b"GET /%b HTTP/1.1\r\nhost: x\r\n\r\n"
LARGE = 16_000_000
"""Bytes of the answer to ``/large``: more than the sockets of one connection hold."""


@dataclass
class Answer:
    """One response: status, headers with lower-case names, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        found: dict[str, Any] = json.loads(self.body)
        assert found["status"] == self.status
        return found


@dataclass
class App:
    """Counts the bytes of bodies; ``/wait`` waits to be released, ``/early`` answers 401 without reading."""

    port: int = 0
    metrics: Metrics = field(default_factory=Metrics)
    begun: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, status, body = scope["path"], 200, b""
        self.begun.append(path)
        headers = []
        if path.startswith("/early"):
            status = 401
            headers = [(b"connection", b"close")] if path.endswith("close") else []
        else:
            try:
                body = await Request(scope, receive).body()
            except ClientDisconnect:
                self.left.append(path)
                return
        if path == "/wait":
            waits = asyncio.create_task(self.released.wait())
            leaves = asyncio.create_task(receive())
            await asyncio.wait((waits, leaves), return_when=asyncio.FIRST_COMPLETED)
            if not waits.done():
                self.left.append(path)
            waits.cancel(), leaves.cancel()
        content = b"x" * LARGE if path == "/large" else b"%b %d" % (path.encode(), len(body))
        length = (b"content-length", b"%d" % len(content))
        await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
        await send({"type": "http.response.body", "body": content})

    def refused(self, reason: str) -> int:
        """How many connections were refused for this reason."""
        return int(self.metrics.connections_refused.labels(reason)._value.get())

    @asynccontextmanager
    async def client(self, first: bytes = b"", host: str = "127.0.0.1") -> AsyncIterator[Client]:
        """Connects from an address of the loopback interface, and sends the first bytes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(host, 0))
        client = Client(reader, writer)
        client.send(first)
        try:
            yield client
        finally:
            writer.transport.abort()


@dataclass
class Client:
    """One connection to the service."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> Answer:
        """Reads one response."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(first.split()[1]), headers, body)

    async def ask(self, path: str) -> Answer:
        self.send(GET % path.encode())
        return await self.answer()

    async def ended(self) -> bool:
        """Waits for the end of the connection; returns whether it was orderly and nothing more had come."""
        try:
            return await self.reader.read() == b""
        except ConnectionResetError:
            return False


@asynccontextmanager
async def app_served(
    connections: int | None = None, around: Callable[[App], Any] = lambda app: app, **settings: Any
) -> AsyncIterator[App]:
    """Serves an ``App``, or what is put around it, with the service's own protocol."""
    app = App()
    protocol = bounded_protocol(Settings(**settings), app.metrics, connections)
    async with served(around(app), http=protocol, lifespan="off") as url:
        app.port = int(url.rsplit(":", 1)[1])
        yield app


async def until(condition: Callable[[], bool]) -> None:
    """Waits for a condition."""
    while not condition():  # noqa: ASYNC110 - most of them are the state of a connection
        await asyncio.sleep(0.01)
