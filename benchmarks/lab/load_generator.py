"""Generates closed-loop HTTP load: each connection sends its next request when the last one is answered."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.errors import BenchmarkError
from benchmarks.lab.stats import percentile

GRACE = 30.0
"""Seconds after the last request that its answer may take; a later one ends the measurement with an error."""


@dataclass(frozen=True)
class LoadResult:
    """Measurements of one run of load.

    Attributes:
        seconds: wall time from the first request to the last answer.
        latencies: seconds of every request that was answered with 200.
        errors: number of answers other than 200.
    """

    seconds: float
    latencies: tuple[float, ...]
    errors: int

    @property
    def per_second(self) -> float:
        """Requests per second that were answered with 200."""
        return len(self.latencies) / self.seconds

    @property
    def p50(self) -> float:
        """Median latency in seconds."""
        return percentile(self.latencies, 50)

    @property
    def p99(self) -> float:
        """99th percentile of the latency in seconds."""
        return percentile(self.latencies, 99)


def encode_post(host: str, path: str, body: bytes) -> bytes:
    """Encodes a complete HTTP/1.1 POST of JSON, so that sending it later only copies bytes."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def generate(host: str, port: int, requests: Sequence[bytes], connections: int, seconds: float) -> LoadResult:
    """Loads a server for some seconds.

    Args:
        host: address or name of the server.
        port: TCP port of the server.
        requests: complete HTTP requests, which all connections send in turns.
        connections: number of kept-alive connections, each with one request under way.
        seconds: time in seconds during which new requests are begun.

    Raises:
        BenchmarkError: the server cannot be reached, closes a connection, or leaves requests unanswered.
    """
    try:
        return asyncio.run(_generate(host, port, requests, connections, seconds))
    except OSError as error:
        raise BenchmarkError(f"cannot load {host}:{port}: {error}") from error


async def _generate(
    host: str, port: int, requests: Sequence[bytes], connections: int, seconds: float
) -> LoadResult:
    loop = asyncio.get_running_loop()
    turns = itertools.cycle(requests)
    open_connections = [_Connection(turns, loop.create_future()) for _ in range(connections)]
    for each in open_connections:
        await loop.create_connection(lambda each=each: each, host, port)  # type: ignore[misc]
    # All connections are open before the clock starts, so that no handshake is measured.
    begun = time.perf_counter()
    for each in open_connections:
        each.begin(begun + seconds)
    try:
        await asyncio.wait_for(asyncio.gather(*(each.done for each in open_connections)), seconds + GRACE)
    except TimeoutError as error:
        raise BenchmarkError(f"{host}:{port} left a request unanswered for {GRACE:g} s") from error
    finally:
        for each in open_connections:
            each.close()
    latencies = tuple(itertools.chain.from_iterable(each.latencies for each in open_connections))
    if not latencies:
        raise BenchmarkError(f"{host}:{port} answered no request with 200")
    return LoadResult(time.perf_counter() - begun, latencies, sum(each.errors for each in open_connections))


class _Connection(asyncio.Protocol):
    """One connection; it parses as much of HTTP/1.1 as an answer with a Content-Length needs."""

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
        """Sends requests one after the other until ``end``, a time of `time.perf_counter`."""
        self._end = end
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        # Names of fields have no case (RFC 9110, section 5.1).
        head = bytes(self._buffer[:head_end]).lower()
        if len(self._buffer) < head_end + 4 + _content_length(head):
            return
        self._buffer.clear()  # one request under way, so nothing of another answer can follow
        now = time.perf_counter()
        if head.startswith(b"http/1.1 200"):  # in lower case, as the whole head is now
            self.latencies.append(now - self._sent)
        else:
            self.errors += 1
        if now < self._end:
            self._send()
        elif not self.done.done():
            # The time is over: this connection has had its last answer.
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"the server hung up: {error or 'no reason'}"))

    def close(self) -> None:
        """Closes the connection."""
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
