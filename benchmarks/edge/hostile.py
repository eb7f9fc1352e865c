"""Command ``hostile``: ten clients that mean ill beside good ones, and what the service makes of both.

The hostile clients are one process, niced and with limits of its own. Two good clients ask ``none``, one on a
kept connection, one on a new connection for each request. Three limits hold: the service's peak of resident
memory above idle, by how much the median time of ``none`` is above the time without hostile clients, and that
no request of a good client is refused.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.edge.good_clients import GoodClient, NoneRequests
from benchmarks.edge.hostile_clients import HELD, KINDS
from benchmarks.errors import BenchmarkError
from benchmarks.lab.options import add_bundle_argument, bundle_of, positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.servers import RunningService, running_service
from benchmarks.lab.service_client import ServiceClient
from benchmarks.lab.side_effects import MEGABYTE, broken_limits
from models import machine
from models.printed_table import Table

QUIET_SECONDS = 10
"""Seconds for which the good clients ask alone, before the others begin."""
END_SECONDS = 30
"""Seconds after their time that the hostile clients may take to end."""
MOST_MEGABYTES, MOST_MS = 300.0, 10.0
"""Limits on resident memory above idle, in 10^6 bytes, and on the growth of the median of ``none``, in ms."""
CLIENTS = {"kept connection": True, "new connections": False}
"""Whether a good client keeps its connection, by its name on the page."""


@dataclass(frozen=True)
class HostileResult:
    """What was measured.

    Attributes:
        memory: peak of resident memory above idle, in bytes.
        quiet: requests of the good clients before the hostile ones, by client.
        beside: requests of the good clients beside the hostile ones, by client.
        done: what each hostile client did, by kind: numbers of connections, megabytes, answers by status.
        failed: hostile clients that broke, by kind, with the reason.
        connections: connections that the service refused (``msr_connections_refused_total``), by reason.
    """

    memory: int
    quiet: Mapping[str, NoneRequests]
    beside: Mapping[str, NoneRequests]
    done: Mapping[str, Mapping[str, int]]
    failed: Mapping[str, str]
    connections: Mapping[str, int]

    @property
    def slower(self) -> float:
        """Milliseconds by which the median of ``none`` has grown, at the client that suffered more."""
        return max(self.beside[name].median - self.quiet[name].median for name in self.quiet)

    @property
    def problems(self) -> list[str]:
        """Sentences about everything that is wrong."""
        said = broken_limits(self.memory, self.slower, MOST_MEGABYTES, MOST_MS)
        for name, requests in self.beside.items():
            if requests.refused:
                reasons = ", ".join(f"{reason} {n}" for reason, n in Counter(requests.refused).items())
                said.append(f"requests of a good client ({name}) that were not answered: {reasons}")
        said += [f"the hostile client of {kind} broke: {reason}" for kind, reason in self.failed.items()]
        said += [f"the hostile client of {kind} did nothing" for kind, done in self.done.items() if not done]
        return said


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_bundle_argument(parser)
    parser.add_argument("--seconds", type=positive, default=60, help="of hostility (default 60)")
    parser.add_argument("--kinds", help=f"comma-separated (default all): {','.join(KINDS)}")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code, 1 if a limit is broken.

    Raises:
        BenchmarkError: the service or the hostile process does not start, or memory cannot be read.
    """
    kinds = arguments.kinds.split(",") if arguments.kinds else list(KINDS)
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise BenchmarkError(f"there is no {unknown[0]!r}; known are {', '.join(KINDS)}")
    items = [item.item_id for item in bundle_of(arguments).catalogue.items]
    settings = {"MSR_PROVIDER": "simulator", "MSR_LOG_LEVEL": "warning"}
    with running_service(arguments.bundle, settings) as service:
        result = asyncio.run(measure(service, items, arguments.seconds, kinds))
    publish(_page(result, arguments), arguments.markdown)
    return int(bool(result.problems))


async def measure(
    service: RunningService, items: Sequence[str], seconds: float, kinds: Sequence[str]
) -> HostileResult:
    """Measures one service.

    Args:
        service: service that runs.
        items: ids of items of its catalogue.
        seconds: seconds for which the hostile clients go on.
        kinds: what they do, one client for each.

    Raises:
        BenchmarkError: the hostile process ends early, or memory cannot be read.
    """
    async with ServiceClient(service.url) as client:
        await client.wait_until_ready()
        await _asked(service, items, 1.0)  # all that the first requests load is there now
        idle = _known(service.resident_bytes())
        quiet = await _asked(service, items, min(QUIET_SECONDS, seconds))
        service.reset_peak()
        beside, hostile = await asyncio.gather(
            _asked(service, items, seconds), _hostile_clients(service.port, seconds, items[0], kinds)
        )
        peak = _known(service.peak_resident_bytes())
        refused = _refused(await client.metrics())
    return HostileResult(peak - idle, quiet, beside, hostile["done"], hostile["failed"], refused)


async def _asked(service: RunningService, items: Sequence[str], seconds: float) -> dict[str, NoneRequests]:
    clients = [GoodClient(service.port, items, kept=kept) for kept in CLIENTS.values()]
    asked = await asyncio.gather(*(client.ask(seconds) for client in clients))
    return dict(zip(CLIENTS, asked, strict=True))


async def _hostile_clients(port: int, seconds: float, item: str, kinds: Sequence[str]) -> dict[str, Any]:
    """Runs the hostile clients in a process of their own, and returns what it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.edge.hostile_clients", str(port), str(seconds), item, *kinds),
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        printed, said = await asyncio.wait_for(process.communicate(), seconds + END_SECONDS)
    except TimeoutError as error:
        raise BenchmarkError("the hostile clients did not end") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        found: dict[str, Any] = json.loads(printed)
    except ValueError as error:
        last = said.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise BenchmarkError(f"the hostile clients broke: {last[0]}") from error
    return found


def _refused(metrics: str) -> dict[str, int]:
    name = "msr_connections_refused_total{"
    found = (line.split('"') for line in metrics.splitlines() if line.startswith(name))
    return {reason: int(float(value.lstrip("} "))) for _, reason, value in found}


def _known(memory: int | None) -> int:
    if memory is None:
        raise BenchmarkError("this system does not tell the memory of a process: /proc is needed")
    return memory


def _page(result: HostileResult, arguments: argparse.Namespace) -> str:
    good = Table(
        ("good client", "requests", "refused", "p50 ms: quiet", "beside", "p99: quiet", "beside", "slowest"),
        tuple(
            (
                name,
                str(len(beside.milliseconds) + len(beside.refused)),
                str(len(beside.refused)),
                f"{result.quiet[name].median:.1f}",
                f"{beside.median:.1f}",
                f"{result.quiet[name].p99:.0f}",
                f"{beside.p99:.0f}",
                f"{max(beside.milliseconds, default=float('inf')):.0f}",
            )
            for name, beside in result.beside.items()
        ),
    )
    hostile = Table(
        ("hostile client", "connections", "held at once", "MB sent", "answers"),
        tuple(
            (
                kind,
                str(done.get("connections", 0)),
                str(HELD.get(kind, "–")),
                str(done.get("MB", 0)),
                ", ".join(f"{status} × {n}" for status, n in sorted(done.items()) if status.isdigit()) or "–",
            )
            for kind, done in result.done.items()
        ),
    )
    counted = ", ".join(f"{reason} {n}" for reason, n in sorted(result.connections.items()))
    return "\n".join(
        (
            "## Clients that mean ill\n",
            machine.describe(machine.facts())
            + f"- {arguments.seconds} s; hostile clients from 127.0.0.2 on, one process, niced; service, "
            + "simulator and good clients share the cores\n"
            + f"- command: `{arguments.command_line}`\n",
            good.markdown(),
            "Milliseconds are of `none`: quiet, before; beside, meanwhile. MB are 10^6 bytes.\n",
            hostile.markdown(),
            f"Connections that the service refused or closed, by its own count: {counted}.\n",
            f"- most MB above idle at most {MOST_MEGABYTES:g}: {result.memory / MEGABYTE:.0f}\n"
            f"- most milliseconds that the median of none grows at most {MOST_MS:g}: {result.slower:.1f}\n"
            f"- requests of good clients that were refused: "
            f"{sum(len(each.refused) for each in result.beside.values())}\n"
            f"- limits that are broken: {len(result.problems)}\n"
            + "".join(f"- {sentence}\n" for sentence in result.problems),
        )
    )
