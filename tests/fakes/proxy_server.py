"""Proxies on real sockets: HTTP (forwarding and CONNECT) and SOCKS 5; every name leads to one target."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_SOCKS5, _NO_AUTHENTICATION, _DOMAIN = 5, 0, 3


@dataclass
class ProxyServer:
    """A proxy with a record of its requests.

    Attributes:
        target: URL that every connection leads to.
        url: address of the proxy.
        asked: ``host:port`` of every connection that was asked for.
        heads: heads of the HTTP requests that the proxy could read.
    """

    target: str
    url: str = ""
    asked: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)

    async def http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        first, _, rest = head.partition("\r\n")
        method, where, version = first.split()
        if method == "CONNECT":
            self.asked.append(where)
            await self._tunnel(reader, writer, b"", b"HTTP/1.1 200 Connected\r\n\r\n")
            return
        url = urlsplit(where)
        self.asked.append(f"{url.hostname}:{url.port or 80}")
        await self._tunnel(reader, writer, f"{method} {url.path} {version}\r\n{rest}".encode(), b"")

    async def socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, methods = await reader.readexactly(2)
        await reader.readexactly(methods)
        writer.write(bytes([_SOCKS5, _NO_AUTHENTICATION]))
        *_, kind = await reader.readexactly(4)
        assert kind == _DOMAIN, "the name is to be resolved by the proxy"
        name = await reader.readexactly((await reader.readexactly(1))[0])
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append(f"{name.decode()}:{port}")
        await self._tunnel(reader, writer, b"", bytes([_SOCKS5, 0, 0, 1, 0, 0, 0, 0, 0, 0]))

    async def _tunnel(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes, answer: bytes
    ) -> None:
        await relay(reader, writer, self.target, first, answer)


async def relay(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    target: str,
    first: bytes = b"",
    answer: bytes = b"",
) -> None:
    """Connects to a target and copies bytes both ways until one side closes its connection."""
    url = urlsplit(target)
    there, to = await asyncio.open_connection(url.hostname, url.port)
    to.write(first)
    writer.write(answer)
    ways = [asyncio.create_task(_carry(reader, to)), asyncio.create_task(_carry(there, writer))]
    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    for way in ways:
        way.cancel()
    await asyncio.gather(*ways, return_exceptions=True)
    to.close()


@asynccontextmanager
async def proxy_server(scheme: str, target: str) -> AsyncIterator[ProxyServer]:
    """Serves a proxy for ``http`` or ``socks5`` on a free loopback port."""
    proxy = ProxyServer(target)
    async with listening(proxy.socks if scheme == "socks5" else proxy.http) as port:
        proxy.url = f"{scheme}://127.0.0.1:{port}"
        yield proxy


@asynccontextmanager
async def listening(accept: Accept, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Accepts connections on a free loopback port, yields the port, and waits for all connections to end."""
    open_ones: set[asyncio.Task[None]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_ones.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await accept(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        async with asyncio.timeout(5):
            await asyncio.gather(*open_ones)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
