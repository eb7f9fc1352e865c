"""A closed-loop load generator: each connection sends its next request when the last one is answered."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.errors import BenchmarkError
from benchmarks.lab.stats import percentile

GRACE = 30.0
"""Seconds after the end that an answer may still take."""


@dataclass(frozen=True)
class Loaded:
    """What one stretch of load found.

    Attributes:
        seconds: wall time.
        latencies: seconds of every answered request.
        errors: answers other than 200.
    """

    seconds: float
    latencies: tuple[float, ...]
    errors: int

    @property
    def per_second(self) -> float:
        """Answered requests per second."""
        return len(self.latencies) / self.seconds

    @property
    def p50(self) -> float:
        """Median latency, seconds."""
        return percentile(self.latencies, 50)

    @property
    def p99(self) -> float:
        """99th percentile of the latency, seconds."""
        return percentile(self.latencies, 99)


def encode_post(host: str, path: str, body: bytes) -> bytes:
    """A complete HTTP/1.1 request, made before the load begins so that the generator only copies bytes."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def generate(host: str, port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Loaded:
    """Load a server.

    Args:
        host: numeric address or name.
        port: TCP port.
        requests: complete requests, sent in turns.
        connections: kept alive, each with one request under way.
        seconds: how long new requests are begun.

    Raises:
        BenchmarkError: the server cannot be reached, hangs up, or answers too little.
    """
    try:
        return asyncio.run(_generate(host, port, requests, connections, seconds))
    except OSError as error:
        raise BenchmarkError(f"cannot load {host}:{port}: {error}") from error


async def _generate(
    host: str, port: int, requests: Sequence[bytes], connections: int, seconds: float
) -> Loaded:
    loop = asyncio.get_running_loop()
    turns = itertools.cycle(requests)
    users = [_User(turns, loop.create_future()) for _ in range(connections)]
    for user in users:
        await loop.create_connection(lambda user=user: user, host, port)  # type: ignore[misc]
    begun = time.perf_counter()
    for user in users:
        user.begin(begun + seconds)
    try:
        await asyncio.wait_for(asyncio.gather(*(user.done for user in users)), seconds + GRACE)
    except TimeoutError as error:
        raise BenchmarkError(f"{host}:{port} left a request unanswered for {GRACE:g} s") from error
    finally:
        for user in users:
            user.close()
    latencies = tuple(itertools.chain.from_iterable(user.latencies for user in users))
    if not latencies:
        raise BenchmarkError(f"{host}:{port} answered no request with 200")
    return Loaded(time.perf_counter() - begun, latencies, sum(user.errors for user in users))


class _User(asyncio.Protocol):
    """One connection. Parses as much of HTTP/1.1 as an answer with a Content-Length needs."""

    def __init__(self, turns: Iterator[bytes], done: asyncio.Future[None]) -> None:
        self.latencies: list[float] = []
        self.errors = 0
        self.done = done
        self._turns = turns
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._sent = self._end = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def begin(self, end: float) -> None:
        """Send requests one after the other until ``end``."""
        self._end = end
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = bytes(self._buffer[:head_end]).lower()
        if len(self._buffer) < head_end + 4 + _content_length(head):
            return
        self._buffer.clear()  # one request under way, so nothing of another answer can follow
        now = time.perf_counter()
        if head.startswith(b"http/1.1 200"):
            self.latencies.append(now - self._sent)
        else:
            self.errors += 1
        if now < self._end:
            self._send()
        elif not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"the server hung up: {error or 'no reason'}"))

    def close(self) -> None:
        """Hang up."""
        if not self.done.done():
            self.done.cancel()
        if self._transport:
            self._transport.close()

    def _send(self) -> None:
        assert self._transport is not None
        self._sent = time.perf_counter()
        self._transport.write(next(self._turns))


def _content_length(head: bytes) -> int:
    _, found, rest = head.partition(b"\r\ncontent-length:")
    if not found:
        raise ConnectionError("the server answers without a Content-Length")
    return int(rest.split(b"\r\n", 1)[0])
