"""Command ``places``: compares fixed concurrency limits with the adaptive one, on an overloaded provider.

More clients call than the provider can serve at once. The command starts its own simulator, which refuses
calls above its capacity as vendors do (429).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections import Counter
from dataclasses import dataclass

from tqdm import tqdm

from benchmarks.lab.options import positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.simulator_control import running_simulator
from benchmarks.lab.stats import median, percentile
from benchmarks.lvlm.gateway_load import DEADLINE, SIMULATOR_OPTIONS, load_gateway
from models import machine
from models.printed_table import Table
from service.lvlm.provider_attempt import Ending

CEILING = 256
"""The service's default limit of simultaneous calls to a provider (``MSR_LVLM_CONCURRENCY``)."""


@dataclass(frozen=True)
class LimitRound:
    """Counts and times of one round with one concurrency limit.

    Attributes:
        endings: number of requests by their ending.
        seconds: time in seconds of each request that was answered.
        outcomes: number of the simulator's calls by outcome; ``rejected`` are refusals.
    """

    endings: Counter[str]
    seconds: list[float]
    outcomes: Counter[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--capacity", type=positive, default=12, help="calls the provider bears (default 12)")
    parser.add_argument("--clients", type=positive, default=60, help="asking all the time (default 60)")
    parser.add_argument("--seconds", type=positive, default=12, help="per limit and round (default 12)")
    parser.add_argument("--rounds", type=positive, default=3, help="default 3")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code.

    Raises:
        BenchmarkError: the simulator does not start.
    """
    logging.getLogger("service").setLevel(logging.ERROR)  # thousands of refusals are expected
    ways = {
        f"fixed at {CEILING}": (CEILING, False),
        # The limit that the service finds by itself, beside one that is far too high and one that is right.
        f"adaptive, up to {CEILING}": (CEILING, True),
        f"fixed at the capacity, {arguments.capacity}": (arguments.capacity, False),
    }
    found: dict[str, list[LimitRound]] = {name: [] for name in ways}
    with tqdm(total=len(ways) * arguments.rounds, unit="stretch", disable=None) as bar:
        for _ in range(arguments.rounds):
            for name, (limit, adaptive) in ways.items():
                found[name].append(_one_round(arguments, limit, adaptive=adaptive))
                bar.update()
    page = _page(found, arguments)
    publish(page, arguments.markdown)
    return 0


def _one_round(arguments: argparse.Namespace, limit: int, *, adaptive: bool) -> LimitRound:
    with running_simulator(*SIMULATOR_OPTIONS) as simulator:
        # Above so many calls under way the simulator answers 429.
        simulator.set_faults({"capacity": arguments.capacity})
        seen = asyncio.run(
            load_gateway(
                simulator.url,
                clients=arguments.clients,
                seconds=arguments.seconds,
                deadline=DEADLINE,
                concurrency=limit,
                adaptive=adaptive,
            )
        )
        outcomes = Counter(row["outcome"] for row in simulator.ledger())
    return LimitRound(seen.endings, seen.answered, outcomes)


def _page(found: dict[str, list[LimitRound]], arguments: argparse.Namespace) -> str:
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
