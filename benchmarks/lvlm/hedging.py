"""Command ``hedges``: measures hedging with a provider of which a few calls take much too long.

It starts its own simulator, whose stragglers are drawn independently of each other. If a real provider is
slow as a whole, a second attempt gains nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from dataclasses import dataclass

from tqdm import tqdm

from benchmarks.lab.cells import SIMULATED_MARK
from benchmarks.lab.options import positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.simulator_control import running_simulator
from benchmarks.lab.stats import median, percentile
from benchmarks.lvlm.gateway_load import DEADLINE, SIMULATOR_OPTIONS, GatewayLoad, load_gateway
from models import machine
from models.printed_table import Table
from service.lvlm.provider_attempt import Ending

SHARES = (0.0, 0.05, 0.1)
"""Values of ``MSR_LVLM_HEDGE``: the share of calls that may be hedged; 0 is no hedging."""
DELAY = 8.0
"""Seconds by which a straggler is late: far past the deadline."""


@dataclass(frozen=True)
class HedgingRound:
    """Results of one round with one share of hedged calls.

    Attributes:
        load: endings and times of the clients' requests.
        calls: number of calls that the simulator received.
        dollars: US dollars that the simulator billed.
    """

    load: GatewayLoad
    calls: int
    dollars: float

    @property
    def late(self) -> float:
        """Percentage of the requests that were not answered by the deadline."""
        endings = self.load.endings
        return 100 * (1 - endings[Ending.FINISHED.value] / endings.total())

    @property
    def extra(self) -> float:
        """Calls per request, at least 1."""
        return self.calls / self.load.endings.total()

    @property
    def thousand(self) -> float:
        """US dollars per thousand answered requests."""
        return 1000 * self.dollars / self.load.endings[Ending.FINISHED.value]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument(
        "--stragglers", type=float, default=0.03, help=f"share of calls {DELAY:g} s late (default 0.03)"
    )
    parser.add_argument("--clients", type=positive, default=20, help="asking all the time (default 20)")
    parser.add_argument("--seconds", type=positive, default=30, help="per share and round (default 30)")
    parser.add_argument("--rounds", type=positive, default=3, help="default 3")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code.

    Raises:
        BenchmarkError: the simulator does not start.
    """
    # Thousands of missed deadlines are expected.
    logging.getLogger("service").setLevel(logging.ERROR)
    found: dict[float, list[HedgingRound]] = {share: [] for share in SHARES}
    with tqdm(total=len(SHARES) * arguments.rounds, unit="stretch", disable=None) as bar:
        for _ in range(arguments.rounds):
            for share, rounds in found.items():
                rounds.append(_one_round(arguments, share))
                bar.update()
    page = _page(found, arguments)
    publish(page, arguments.markdown)
    return 0


def _one_round(arguments: argparse.Namespace, share: float) -> HedgingRound:
    with running_simulator(*SIMULATOR_OPTIONS) as simulator:
        # Without an end: the phase lasts as long as the simulator runs.
        phase = {"fault": "straggler", "rate": arguments.stragglers, "delay": DELAY}
        simulator.set_faults({"phases": [phase]})
        seen = asyncio.run(
            load_gateway(
                simulator.url,
                clients=arguments.clients,
                seconds=arguments.seconds,
                deadline=DEADLINE,
                # Far above the number of clients, so that no second attempt waits for the limit.
                concurrency=256,
                hedge=share,
            )
        )
        summary = simulator.ledger_summary()
    return HedgingRound(seen, summary["calls"], summary["cost_usd"])


def _page(found: dict[float, list[HedgingRound]], arguments: argparse.Namespace) -> str:
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
        f"USD per 1,000 answers {SIMULATED_MARK}",
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
