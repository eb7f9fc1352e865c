"""Runs clients that mean ill: ``python -m benchmarks.edge.hostile_clients PORT SECONDS ITEM KIND…``.

Each has an address of its own, from 127.0.0.2 on, and does one thing for so many seconds (``KINDS``): it
sends what never ends, holds connections without using them, asks for what is costly, or takes nothing of what
it gets. The process is niced and has a limit of memory; at the end it prints what it did, as one JSON object.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

HOST = "127.0.0.1"
FIRST_ADDRESS = 2
"""Last byte of the first client's address; the others follow."""
NICE = 10
"""Increment of this process's niceness, so that the service and good clients get the processor first."""
MEMORY = 2**30
"""Bytes of address space of this process at most."""
FILES = 8_192
"""Descriptors of this process at most, if the system allows them."""
BLOCK = 65_536
"""Bytes that are sent at once of what never ends."""
ENDLESS = 4
"""Connections at once of a client that sends what never ends."""
FLOODS = 2
"""Connections of a client that asks for what is costly, one request at a time on each."""
HELD = {"silent": 2_500, "half heads": 1_000, "half bodies": 300, "takes nothing": 300}
"""Connections that a client holds at once, by kind."""
BODY = 1_000_000
"""Bytes of a body that does not come to its end."""


class HostileClient:
    """One client: its address, its deadline and what it has done.

    Args:
        port: TCP port of the service.
        address: address that it connects from.
        end: time of ``time.monotonic`` at which it stops.
        item: id of an item of the catalogue.

    Attributes:
        item: id of an item of the catalogue.
        done: numbers of connections, of megabytes sent and of answers by status.
    """

    def __init__(self, port: int, address: str, end: float, item: str) -> None:
        self._port, self._address, self._end = port, address, end
        self._sent = 0
        self.item = item
        self.done: Counter[str] = Counter()

    @property
    def going_on(self) -> bool:
        """Whether its time is not over."""
        return time.monotonic() < self._end

    async def connect(self, receive_buffer: int | None = None) -> socket.socket:
        """Connects from its own address; a receive buffer of few bytes makes the service keep the answer."""
        connection = socket.socket()
        try:
            connection.setblocking(False)
            if receive_buffer is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            connection.bind((self._address, 0))
            await asyncio.wait_for(
                asyncio.get_running_loop().sock_connect(connection, (HOST, self._port)), 10
            )
        except BaseException:
            connection.close()
            raise
        self.done["connections"] += 1
        return connection

    async def send(self, connection: socket.socket, data: bytes) -> None:
        """Sends bytes, for ten seconds at most."""
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(connection, data), 10)
        self._sent += len(data)
        self.done["MB"] = self._sent // 10**6

    async def endless(self, starts: Iterator[tuple[bytes, bytes]]) -> None:
        """Sends the next start and then its rest again and again, until the service has enough."""
        while self.going_on:
            first, more = next(starts)
            with suppress(OSError, TimeoutError), await self.connect() as connection:
                await self.send(connection, first)
                while self.going_on:
                    await self.send(connection, more)
            await asyncio.sleep(0)

    async def hold(
        self, count: int, first: Iterator[bytes], trickle: bytes, receive_buffer: int | None = None
    ) -> None:
        """Holds connections, sends the first bytes on each, and a little more now and then."""
        held: list[socket.socket] = []
        try:
            while self.going_on:
                for connection in held[:]:
                    try:
                        if trickle:
                            connection.send(trickle)
                        if not receive_buffer and connection.recv(4_096) == b"":
                            raise ConnectionResetError
                    except BlockingIOError:
                        pass
                    except OSError:
                        held.remove(connection)
                        connection.close()
                for _ in range(min(100, count - len(held))):
                    with suppress(OSError, TimeoutError):
                        held.append(await self.connect(receive_buffer))
                        await self.send(held[-1], next(first))
                await asyncio.sleep(0.1 if len(held) < count else 1.0)
        finally:
            for connection in held:
                connection.close()

    async def flood(self, requests: Iterator[bytes]) -> None:
        """Asks one request after the other on one connection."""
        while self.going_on:
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                connection = await self.connect()
                reader, writer = await asyncio.open_connection(sock=connection)
                try:
                    while self.going_on:
                        await self._ask(reader, writer, next(requests))
                finally:
                    writer.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        writer.write(request)
        self._sent += len(request)
        self.done["MB"] = self._sent // 10**6
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        lines = head.lower().split(b"\r\n")
        self.done[lines[0].split()[1].decode()] += 1
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        await reader.readexactly(length)
        if b"connection: close" in lines:
            raise ConnectionResetError


def get(path: str) -> bytes:
    """Returns a request."""
    return f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode()


def post(path: str, body: bytes, length: int | None = None, more: str = "") -> bytes:
    """Returns a request with a JSON body, which may announce another length than it has."""
    announced = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n{more}"
    return head.encode() + b"content-length: %d\r\n\r\n" % announced + body


def chunked(path: str) -> bytes:
    """Returns the head of a request whose body comes in chunks."""
    return f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n".encode()


def batches(item: str) -> Iterator[bytes]:
    """Yields requests that store a thousand events of a thousand new users each, who all took one item."""
    now = int(time.time())
    for number in itertools.count():
        events = [
            {"user_id": f"hostile-{number}-{n}", "item_id": item, "timestamp": now} for n in range(1_000)
        ]
        yield post("/events", json.dumps({"events": events}).encode())


async def _heads(client: HostileClient) -> None:
    start = b"GET /health/live HTTP/1.1\r\nhost: x\r\n"
    kinds = [
        (start, b"a: b\r\n" * (BLOCK // 6)), (b"GET /", b"a" * BLOCK), (start + b"a: ", b"b" * BLOCK),
        (b"", b"\r\n" * (BLOCK // 2)),
    ]  # fmt: skip
    await asyncio.gather(*(client.endless(itertools.cycle(kinds)) for _ in range(ENDLESS)))


async def _bodies(client: HostileClient) -> None:
    start = chunked("/recommend")
    kinds = [
        (start, b"1\r\n \r\n" * (BLOCK // 6)), (start + b"1;", b"a" * BLOCK),
        (start + b"0\r\n", b"a: b\r\n" * (BLOCK // 6)), (post("/recommend", b"", 10**9), b" " * BLOCK),
        (get("/health/live") * 2_000, get("/health/live") * 1_000), (b"\x16\x03\x01", b"\x00" * BLOCK),
    ]  # fmt: skip
    await asyncio.gather(*(client.endless(itertools.cycle(kinds)) for _ in range(ENDLESS)))


async def _silent(client: HostileClient) -> None:
    async def come_and_go() -> None:
        while client.going_on:
            with suppress(OSError, TimeoutError):
                (await client.connect()).close()
            await asyncio.sleep(0.001)

    await asyncio.gather(client.hold(HELD["silent"], itertools.repeat(b""), b""), come_and_go())


async def _half_heads(client: HostileClient) -> None:
    first = get("/")[:-2] + b"a: " + b"b" * 16_000
    await client.hold(HELD["half heads"], itertools.repeat(first), b"b")


async def _half_bodies(client: HostileClient) -> None:
    first = post("/recommend?strategy=none", b"{" + b" " * (BODY - 1_000), BODY)
    await client.hold(HELD["half bodies"], itertools.repeat(first), b" ")


async def _takes_nothing(client: HostileClient) -> None:
    body = b'{"user_id": "u0001", "k": 100}'
    stream = post("/recommend?strategy=s5&cache=off", body, more="accept: text/event-stream\r\n")
    starts = itertools.cycle([get("/items?limit=100") * 9] * 9 + [stream])
    await client.hold(HELD["takes nothing"], starts, b"", 4_096)


async def _floods(client: HostileClient, requests: Callable[[], Iterator[bytes]]) -> None:
    await asyncio.gather(*(client.flood(requests()) for _ in range(FLOODS)))


def _unknown_fields() -> Iterator[bytes]:
    body = b"{" + b",".join(b'"k%d":1' % n for n in range(90_000)) + b"}"
    return itertools.cycle((post("/recommend", body), post("/events", body)))


_WORDS = "+".join(["e"] * 120 + ["zzz"])

KINDS: Mapping[str, Callable[[HostileClient], Awaitable[Any]]] = {
    "endless heads": _heads,
    "endless bodies": _bodies,
    "silent": _silent,
    "half heads": _half_heads,
    "half bodies": _half_bodies,
    "takes nothing": _takes_nothing,
    "searches": lambda client: _floods(client, lambda: itertools.repeat(get(f"/items?q={_WORDS}"))),
    "unknown fields": lambda client: _floods(client, _unknown_fields),
    "metrics": lambda client: _floods(client, lambda: itertools.repeat(get("/metrics"))),
    "events": lambda client: _floods(client, lambda: batches(client.item)),
}
"""What each of ten clients does, by the name on the page."""


async def main(port: int, seconds: float, item: str, kinds: Sequence[str]) -> None:
    """Runs a client of each kind, and prints what they did."""
    end = time.monotonic() + seconds
    clients = {
        kind: HostileClient(port, f"127.0.0.{number}", end, item)
        for number, kind in enumerate(kinds, start=FIRST_ADDRESS)
    }
    tasks = {kind: asyncio.ensure_future(KINDS[kind](client)) for kind, client in clients.items()}
    _, late = await asyncio.wait(tasks.values(), timeout=seconds + 5)
    for task in late:
        task.cancel()
    failed = {
        kind: repr(error) for kind, task in tasks.items() if task not in late and (error := task.exception())
    }
    print(json.dumps({"done": {kind: client.done for kind, client in clients.items()}, "failed": failed}))  # noqa: T201


def bound() -> None:
    """Gives this process a low priority, and limits of memory and open files."""
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


if __name__ == "__main__":
    bound()
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4:]))
