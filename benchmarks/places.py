"""``places``: more clients than a provider bears at once: fixed limits of calls beside the adaptive one.

Starts its own simulator, which refuses what is above its capacity as vendors do (429).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from benchmarks import machine
from benchmarks.faults import send
from benchmarks.files import write_text
from benchmarks.gateway_load import load
from benchmarks.options import positive
from benchmarks.servers import free_port, running
from benchmarks.stats import median, percentile
from benchmarks.tables import Table
from service.lvlm.attempt import Ending

CEILING = 256
DEADLINE = 3.0
PACE = ("--ttft", "0.3", "--tokens-per-second", "200")


@dataclass(frozen=True)
class Found:
    """What one limit came to: requests by ending, seconds of the answered, the simulator's outcomes."""

    endings: Counter[str]
    seconds: list[float]
    outcomes: Counter[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--capacity", type=positive, default=12, help="calls the provider bears (default 12)")
    parser.add_argument("--clients", type=positive, default=60, help="asking all the time (default 60)")
    parser.add_argument("--seconds", type=positive, default=12, help="per limit and round (default 12)")
    parser.add_argument("--rounds", type=positive, default=3, help="default 3")
    parser.add_argument("--markdown", type=Path, help="also write the page to this file")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; returns the exit code.

    Raises:
        BenchmarkError: the simulator does not start.
    """
    logging.getLogger("service").setLevel(logging.ERROR)  # refusals are what this is about
    ways = {
        f"fixed at {CEILING}": (CEILING, False),
        f"adaptive, up to {CEILING}": (CEILING, True),
        f"fixed at the capacity, {arguments.capacity}": (arguments.capacity, False),
    }
    found: dict[str, list[Found]] = {name: [] for name in ways}
    with tqdm(total=len(ways) * arguments.rounds, unit="stretch", disable=None) as bar:
        for _ in range(arguments.rounds):
            for name, (limit, adaptive) in ways.items():
                found[name].append(_stretch(arguments, limit, adaptive=adaptive))
                bar.update()
    page = _page(found, arguments)
    sys.stdout.write(page)
    if arguments.markdown:
        write_text(arguments.markdown, page)
    return 0


def _stretch(arguments: argparse.Namespace, limit: int, *, adaptive: bool) -> Found:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running("service.simulator", ["--port", str(port), *PACE], {}, port, None):
        send("PUT", f"{url}/faults", {"capacity": arguments.capacity})
        seen = asyncio.run(
            load(
                url,
                clients=arguments.clients,
                seconds=arguments.seconds,
                deadline=DEADLINE,
                concurrency=limit,
                adaptive=adaptive,
            )
        )
        outcomes = Counter(row["outcome"] for row in json.loads(send("GET", f"{url}/ledger")))
    return Found(seen.endings, seen.answered, outcomes)


def _page(found: dict[str, list[Found]], arguments: argparse.Namespace) -> str:
    rows = tuple(
        (
            name,
            f"{median([each.endings[Ending.FINISHED.value] for each in rounds]):.0f}",
            f"{median([each.endings.total() - each.endings[Ending.FINISHED.value] for each in rounds]):.0f}",
            f"{median([each.outcomes['rejected'] for each in rounds]):.0f}",
            f"{median([median(each.seconds) for each in rounds]):.2f}",
            f"{median([percentile(each.seconds, 99) for each in rounds]):.2f}",
        )
        for name, rounds in found.items()
    )
    columns = ("limit of calls", "answered", "failed", "refusals by the provider", "p50 s", "p99 s")
    return "\n".join(
        (
            f"## {arguments.clients} clients on a provider that bears {arguments.capacity} calls\n",
            machine.describe(machine.facts())
            + f"- {arguments.rounds} rounds of {arguments.seconds} s, deadline {DEADLINE:g} s, "
            + "three attempts\n"
            + f"- command: `{arguments.command_line}`\n",
            Table(columns, rows).markdown(),
            "Medians over rounds.\n",
        )
    )
