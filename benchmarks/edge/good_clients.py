"""Asks strategy ``none`` as a shop would, and notes every request that is not answered with 200 at once."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.edge.http_connection import read_response
from benchmarks.lab.load_generator import encode_post
from benchmarks.lab.servers import HOST
from benchmarks.lab.stats import median, percentile

PAUSE = 0.02
"""Seconds between two requests of one client."""
TIMEOUT = 30.0
"""Seconds after which a request counts as refused."""
K, HISTORY = 10, 10
"""Items that a request asks for, and items of its history."""


@dataclass(frozen=True)
class NoneRequests:
    """Requests of one client.

    Attributes:
        milliseconds: time of every request that was answered with 200, the connection included if it was new.
        refused: status of each other one, or the kind of the error.
    """

    milliseconds: tuple[float, ...]
    refused: tuple[str, ...]

    @property
    def median(self) -> float:
        """Median in milliseconds; infinite where none was answered."""
        return median(self.milliseconds) if self.milliseconds else float("inf")

    @property
    def p99(self) -> float:
        """99th percentile in milliseconds; infinite where none was answered."""
        return percentile(self.milliseconds, 99) if self.milliseconds else float("inf")


class GoodClient:
    """A client that asks one request at a time, on one connection or on a new one each time.

    Args:
        port: TCP port of the service.
        items: ids of items, of which histories are drawn.
        kept: whether the connection is kept.
    """

    def __init__(self, port: int, items: Sequence[str], *, kept: bool) -> None:
        self._port, self._items, self._kept = port, items, kept
        self._draw = random.Random(0)
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, seconds: float) -> NoneRequests:
        """Asks for some seconds."""
        took, refused = [], []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            body = {"history": self._draw.sample(self._items, HISTORY), "k": K}
            request = encode_post(HOST, "/recommend?strategy=none", json.dumps(body).encode())
            begun = time.perf_counter()
            try:
                status = await asyncio.wait_for(self._answer(request), TIMEOUT)
            except (OSError, EOFError, TimeoutError) as error:
                status = type(error).__name__
                self.close()
            if status == "200":
                took.append(1000 * (time.perf_counter() - begun))
            else:
                refused.append(status)
            await asyncio.sleep(PAUSE)
        self.close()
        return NoneRequests(tuple(took), tuple(refused))

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            with suppress(OSError):
                self._connection[1].close()
            self._connection = None

    async def _answer(self, request: bytes) -> str:
        """Sends a request and reads the whole answer; returns its status."""
        if self._connection is None:
            self._connection = await asyncio.open_connection(HOST, self._port)
        reader, writer = self._connection
        writer.write(request)
        response = await read_response(reader)
        if not self._kept or response.last:
            self.close()
        return str(response.status)
