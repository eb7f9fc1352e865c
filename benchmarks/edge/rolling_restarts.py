"""Command ``rolling``: stops and starts services under load, and counts what clients notice.

Two scenes. *Behind a proxy*: two services, each stopped by SIGTERM and started again in turn, behind a proxy
that watches ``/health/ready`` and repeats nothing; no request may fail. *Directly*: one service with two
workers that is stopped under load; every request begun before SIGTERM must be answered, and none begun after
it may hang or be reset.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from benchmarks.edge.health_proxy import CHECK_SECONDS, HealthProxy, running_proxy
from benchmarks.edge.http_connection import HUNG, OK, REFUSED, RESET, HttpConnection
from benchmarks.errors import BenchmarkError
from benchmarks.lab.load_generator import encode_post
from benchmarks.lab.options import add_bundle_argument, bundle_of, positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.servers import HOST, free_port, running
from benchmarks.lab.stats import percentile
from models import machine
from models.printed_table import Table

LOAD = 0.7
"""Share of the requests per second that one service bears behind the proxy."""
CONNECTIONS = 16
"""Clients, each with one request under way."""
HANG_SECONDS = 10.0
"""Seconds without an answer after which a request of the candidate model hangs."""
LVLM_EVERY = 20
"""One request in so many asks the LVLM and takes longer."""
MET = (
    "behind the proxy, every request answered: met",
    "directly, every request begun before SIGTERM answered: met",
    "directly, every request begun after SIGTERM answered or refused: met",
)
"""Verdicts of a run without problems."""
MEASURE_SECONDS = 3.0
"""Seconds in which the most requests per second are measured."""


@dataclass
class Seen:
    """What clients saw.

    Attributes:
        before: what became of requests that were begun before the last SIGTERM, by word or status.
        after: what became of those that were begun after it.
        seconds: times of those that were answered, in seconds.
    """

    before: Counter[str] = field(default_factory=Counter)
    after: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_bundle_argument(parser)
    parser.add_argument("--restarts", type=positive, default=5, help="of each service (default 5)")
    parser.add_argument(
        "--stops", type=positive, default=5, help="of the service with two workers (default 5)"
    )
    parser.add_argument("--drain", type=float, default=5, help="MSR_DRAIN_S of all services (default 5)")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code, 1 if a request failed that must not.

    Raises:
        BenchmarkError: a service does not start, or ends with another status than 0.
    """
    history = [item.item_id for item in bundle_of(arguments).catalogue.items[:3]]
    body = json.dumps({"history": history, "k": 10}).encode()
    requests = [encode_post(HOST, "/recommend?strategy=none", body)] * (LVLM_EVERY - 1)
    requests.append(encode_post(HOST, "/recommend?strategy=s3&cache=off", body))
    stopped = Seen()
    with tqdm(total=2 * (arguments.restarts + arguments.stops), unit="stop", disable=None) as bar:
        rolled, rate = asyncio.run(_roll(arguments, requests, bar.update))
        for drain in (arguments.drain, 0.0):
            for _ in range(arguments.stops):
                asyncio.run(_stop_directly(arguments.bundle, drain, requests, stopped))
                bar.update()
    publish(_page(rolled, rate, stopped, arguments), arguments.markdown)
    return int(bool(_problems(rolled, stopped)))


class _Service:
    """A service on a port of its own that is stopped and started.

    Args:
        bundle: folder that it serves.
        settings: environment variables besides address, bundle and data.
    """

    def __init__(self, bundle: Path, **settings: str) -> None:
        self.port = free_port()
        self._data = tempfile.TemporaryDirectory(prefix="rolling-")
        self._settings = {
            "MSR_BUNDLE": str(bundle), "MSR_HOST": HOST, "MSR_PORT": str(self.port), "MSR_API_KEY": "",
            "MSR_REDIS_URL": "", "MSR_DATA": self._data.name, "MSR_LOG_LEVEL": "warning", **settings,
        }  # fmt: skip
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it; returns when it listens.

        Raises:
            BenchmarkError: it does not.
        """
        self._process = self._stack.enter_context(running("service", [], self._settings, self.port, None))

    def signal(self) -> None:
        """Tells it to stop."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Waits for its end.

        Raises:
            BenchmarkError: it ended with another status than 0.
        """
        assert self._process is not None
        status = self._process.wait(60)
        self._stack.close()
        if status != 0:
            raise BenchmarkError(f"the service ended with status {status} after SIGTERM")

    def close(self) -> None:
        """Removes what is left of it."""
        self._stack.close()
        self._data.cleanup()


async def _roll(
    arguments: argparse.Namespace, requests: Sequence[bytes], on_restart: Callable[[], object]
) -> tuple[Seen, float]:
    """Restarts two services in turn behind the proxy; returns what clients saw, and requests per second."""
    services = [
        _Service(arguments.bundle, MSR_WORKERS="1", MSR_DRAIN_S=str(arguments.drain)) for _ in range(2)
    ]
    seen, turns = Seen(), itertools.cycle(requests)
    try:
        async with running_proxy(HOST, [service.port for service in services]) as proxy:
            await asyncio.to_thread(services[0].start)
            await _until_ready(proxy, 1)
            rate = LOAD * await _most_per_second(proxy.port, turns)
            await asyncio.to_thread(services[1].start)
            await _until_ready(proxy, 2)
            over = asyncio.Event()
            clients = asyncio.create_task(_clients(proxy.port, turns, over, seen.before, seen, rate))
            for service in services * arguments.restarts:
                service.signal()
                await asyncio.to_thread(service.wait)
                await asyncio.to_thread(service.start)
                await _until_ready(proxy, 2)
                on_restart()
            over.set()
            await clients
    finally:
        for service in services:
            service.close()
    return seen, rate


async def _stop_directly(bundle: Path, drain: float, requests: Sequence[bytes], seen: Seen) -> None:
    """Stops a service with two workers while clients ask it directly, and adds what they saw."""
    service = _Service(bundle, MSR_WORKERS="2", MSR_DRAIN_S=str(drain))
    turns = itertools.cycle(requests)
    try:
        await asyncio.to_thread(service.start)
        rate = LOAD * await _most_per_second(service.port, turns)
        over, stopping = asyncio.Event(), asyncio.Event()
        clients = asyncio.create_task(
            _clients(service.port, turns, over, seen.before, seen, rate, (stopping, seen.after))
        )
        await asyncio.sleep(1)
        service.signal()
        stopping.set()
        await asyncio.to_thread(service.wait)
        await asyncio.sleep(0.5)
        over.set()
        await clients
    finally:
        service.close()


async def _until_ready(proxy: HealthProxy, count: int) -> None:
    """Waits until the proxy sees so many services ready."""
    async with asyncio.timeout(60):
        await proxy.ready(count)


async def _most_per_second(port: int, turns: Iterator[bytes]) -> float:
    """Returns the requests per second that are answered when every client asks all the time."""
    over, seen = asyncio.Event(), Seen()
    asyncio.get_running_loop().call_later(MEASURE_SECONDS, over.set)
    await _clients(port, turns, over, seen.before, seen, rate=float("inf"))
    if not seen.before[OK]:
        raise BenchmarkError(f"no request is answered on port {port}: {dict(seen.before)}")
    return seen.before[OK] / MEASURE_SECONDS


async def _clients(
    port: int,
    turns: Iterator[bytes],
    over: asyncio.Event,
    counts: Counter[str],
    seen: Seen,
    rate: float,
    change: tuple[asyncio.Event, Counter[str]] | None = None,
) -> None:
    """Asks at a rate until it is over, each client over a connection that it keeps as long as it may.

    Args:
        port: TCP port that is asked.
        turns: requests, in turns.
        over: ends the load.
        counts: what became of the requests.
        seen: gets the times of those that were answered.
        rate: requests per second of all clients.
        change: an event, and counts for the requests that are begun after it.
    """
    loop = asyncio.get_running_loop()
    begun, number = loop.time(), itertools.count()

    async def client() -> None:
        connection = HttpConnection(HOST, port)
        while not over.is_set():
            # One schedule for all: a client that is late leaves its turn to the next one.
            due = begun + next(number) / rate
            await asyncio.sleep(max(0.0, due - loop.time()))
            into = change[1] if change is not None and change[0].is_set() else counts
            started = loop.time()
            outcome = await connection.outcome(next(turns), HANG_SECONDS)
            into[outcome] += 1
            if outcome == OK:
                seen.seconds.append(loop.time() - started)
            elif outcome == REFUSED:
                await asyncio.sleep(0.02)
        await connection.close()

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))


def _problems(rolled: Seen, stopped: Seen) -> list[str]:
    """Returns a sentence for each limit that is broken."""
    found = []
    if set(rolled.before) != {OK}:
        found.append("behind the proxy, requests failed")
    if set(stopped.before) != {OK}:
        found.append("directly, requests begun before SIGTERM were not answered")
    if not set(stopped.after) <= {OK, REFUSED}:
        found.append("directly, requests begun after SIGTERM were neither answered nor refused")
    return found


def _page(rolled: Seen, rate: float, stopped: Seen, arguments: argparse.Namespace) -> str:
    problems = _problems(rolled, stopped)
    rows = (
        _row(f"behind a proxy: 2 services restarted {arguments.restarts} times each", rolled.before),
        _row("directly: begun before SIGTERM", stopped.before),
        _row("directly: begun after SIGTERM", stopped.after),
    )
    milliseconds = [1000 * second for second in rolled.seconds]
    return "\n".join(
        (
            "## Services that are stopped under load\n",
            machine.describe(machine.facts())
            + f"- MSR_DRAIN_S={arguments.drain:g}, and 0 in half of the {2 * arguments.stops} stops of the "
            + "one with two workers; services, proxy and clients share the cores\n"
            + f"- load: {CONNECTIONS} clients, {100 * LOAD:.0f} % of what one service bears ({rate:.0f} "
            + f"requests per second behind the proxy), one in {LVLM_EVERY} asks the LVLM (simulator)\n"
            + f"- command: `{arguments.command_line}`\n",
            Table(("requests", OK, REFUSED, RESET, HUNG, "other status"), rows).markdown(),
            "Refused: no connection. Reset: a connection that ended without an answer. Hung: none within "
            f"{HANG_SECONDS:g} s. The proxy watches `/health/ready` every {CHECK_SECONDS:g} s and repeats no "
            f"request. Behind it, answers took {percentile(milliseconds, 50):.1f} ms (median), "
            f"{percentile(milliseconds, 99):.0f} ms (p99), {max(milliseconds):.0f} ms (slowest).\n",
            "\n".join(f"- {verdict}" for verdict in problems or MET) + "\n",
        )
    )


def _row(name: str, counts: Counter[str]) -> tuple[str, ...]:
    words = (OK, REFUSED, RESET, HUNG)
    others = {status: count for status, count in counts.items() if status not in words}
    return (
        name,
        *(str(counts[word]) for word in words),
        ", ".join(f"{status}: {count}" for status, count in others.items()) or "0",
    )
