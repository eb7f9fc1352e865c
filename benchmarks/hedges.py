"""``hedges``: a provider of which a few calls take much too long: with and without second attempts.

Starts its own simulator, whose stragglers are drawn independently of each other; where a provider is slow as
a whole, a second attempt is no quicker than the first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from benchmarks import machine
from benchmarks.dollars import SIMULATED
from benchmarks.faults import send
from benchmarks.files import write_text
from benchmarks.gateway_load import Load, load
from benchmarks.options import positive
from benchmarks.servers import free_port, running
from benchmarks.stats import median, percentile
from benchmarks.tables import Table
from service.lvlm.attempt import Ending

SHARES = (0.0, 0.05, 0.1)
DEADLINE = 3.0
DELAY = 8.0
PACE = ("--ttft", "0.3", "--tokens-per-second", "200")


@dataclass(frozen=True)
class Found:
    """What one share came to.

    Attributes:
        load: as the clients saw it.
        calls: that the simulator got.
        dollars: that it billed.
    """

    load: Load
    calls: int
    dollars: float

    @property
    def late(self) -> float:
        """Per cent of the requests that were not answered by the deadline."""
        endings = self.load.endings
        return 100 * (1 - endings[Ending.FINISHED.value] / endings.total())

    @property
    def extra(self) -> float:
        """Calls per request."""
        return self.calls / self.load.endings.total()

    @property
    def thousand(self) -> float:
        """US dollars per thousand answered requests."""
        return 1000 * self.dollars / self.load.endings[Ending.FINISHED.value]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--stragglers", type=float, default=0.03, help=f"share of calls {DELAY:g} s late (default 0.03)"
    )
    parser.add_argument("--clients", type=positive, default=20, help="asking all the time (default 20)")
    parser.add_argument("--seconds", type=positive, default=30, help="per share and round (default 30)")
    parser.add_argument("--rounds", type=positive, default=3, help="default 3")
    parser.add_argument("--markdown", type=Path, help="also write the page to this file")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; returns the exit code.

    Raises:
        BenchmarkError: the simulator does not start.
    """
    logging.getLogger("service").setLevel(logging.ERROR)
    found: dict[float, list[Found]] = {share: [] for share in SHARES}
    with tqdm(total=len(SHARES) * arguments.rounds, unit="stretch", disable=None) as bar:
        for _ in range(arguments.rounds):
            for share, rounds in found.items():
                rounds.append(_stretch(arguments, share))
                bar.update()
    page = _page(found, arguments)
    sys.stdout.write(page)
    if arguments.markdown:
        write_text(arguments.markdown, page)
    return 0


def _stretch(arguments: argparse.Namespace, share: float) -> Found:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running("service.simulator", ["--port", str(port), *PACE], {}, port, None):
        phase = {"fault": "straggler", "rate": arguments.stragglers, "delay": DELAY}
        send("PUT", f"{url}/faults", {"phases": [phase]})
        seen = asyncio.run(
            load(
                url,
                clients=arguments.clients,
                seconds=arguments.seconds,
                deadline=DEADLINE,
                concurrency=256,
                hedge=share,
            )
        )
        summary = json.loads(send("GET", f"{url}/ledger/summary"))
    return Found(seen, summary["calls"], summary["cost_usd"])


def _page(found: dict[float, list[Found]], arguments: argparse.Namespace) -> str:
    rows = tuple(
        (
            f"{share:g}",
            f"{median([each.load.endings.total() for each in rounds]):.0f}",
            f"{median([each.late for each in rounds]):.2f}",
            f"{median([median(each.load.seconds) for each in rounds]):.2f}",
            f"{median([percentile(each.load.seconds, 99) for each in rounds]):.2f}",
            f"{median([each.extra for each in rounds]):.3f}",
            f"{median([each.thousand for each in rounds]):.3f}",
        )
        for share, rounds in found.items()
    )
    columns = (
        "MSR_LVLM_HEDGE",
        "requests",
        "% without an answer in time",
        "p50 s",
        "p99 s",
        "calls per request",
        f"USD per 1,000 answers {SIMULATED}",
    )
    return "\n".join(
        (
            f"## {100 * arguments.stragglers:g} % of the calls are {DELAY:g} seconds late\n",
            machine.describe(machine.facts())
            + f"- {arguments.rounds} rounds of {arguments.seconds} s, {arguments.clients} clients, deadline "
            + f"{DEADLINE:g} s, three attempts\n"
            + f"- command: `{arguments.command_line}`\n",
            Table(columns, rows).markdown(),
            "Medians over rounds. Stragglers are drawn independently of each other, which favours second "
            "attempts: a provider that is slow as a whole is not outrun. The simulator bills.\n",
        )
    )
