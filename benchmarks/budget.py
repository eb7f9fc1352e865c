"""``budget``: many requests of every behaviour of the fake vendors, under a budget that they do not reach.

Whatever a server sends, each call's reservation is settled: afterwards no request was refused for the budget,
and the budget's total is what the books say. The service's gateway and providers run in this process, over
real sockets; each behaviour has a price, so that each call reserves something.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import itertools
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from benchmarks import machine
from benchmarks.behaviour_checks import MODES, STRATEGY, K
from benchmarks.cases import Cohort
from benchmarks.cost import Calls
from benchmarks.fakes import FOLDER, PROGRAMS, Fake, behaviours, present, running_fake
from benchmarks.files import write_text
from benchmarks.options import add_bundle_argument, bundle_of, positive
from benchmarks.tables import Table
from models.evaluation import EvaluationProtocol
from service.bundle import Catalogue
from service.lvlm.gateway import Ending
from service.lvlm.pricing import Model, Prices
from service.lvlm.providers.base import Call
from service.lvlm.tokens import UNKNOWN_FAMILY
from service.metrics import Metrics
from service.server_options import CompatibleProvider
from service.settings import Settings
from service.stores.base import Sum
from service.stores.memory import MemoryCache, MemoryEvents, MemoryMeters
from service.strategies import STRATEGIES
from service.wiring import Stores, open_gateway, open_providers

USD_PER_DAY = 1_000.0
PRICED = Model(2.5, 1.25, 2.5, 10.0, UNKNOWN_FAMILY, None)
"""As gpt-4o: US dollars per million tokens."""
USERS = 20
"""Whose prompts are sent in turns."""
DEADLINE = 10.0
PROVIDERS = {"openai": "fake", "anthropic": "anthropic"}
"""Wire -> name of the provider that speaks it."""
NEAR = 1e-6
"""US dollars that sums of floats may differ by."""


class WatchedMeters(MemoryMeters):
    """Meters that know what was drawn from all of them together, and not given back.

    Attributes:
        drawn: US dollars now.
        peak: the most at one moment.
    """

    def __init__(self) -> None:
        super().__init__()
        self.drawn = self.peak = 0.0

    async def settle(self, sums: Sequence[Sum]) -> None:
        """Add without asking for the limit."""
        self.drawn += sum(each.amount for each in sums)
        self.peak = max(self.peak, self.drawn)
        await super().settle(sums)


@dataclass(frozen=True)
class Cell:
    """One behaviour of one fake, as the gateway asks it in one mode."""

    wire: str
    behaviour: str
    mode: str


@dataclass(frozen=True)
class Spent:
    """What the requests of a cell came to.

    Attributes:
        endings: of the requests.
        broken: requests that raised instead of ending.
        books: US dollars, as the metrics have them.
        drawn: from the budget when all was over.
        peak: drawn at one moment.
        calls: that the fake got.
    """

    endings: Counter[str]
    broken: Counter[str]
    books: float
    drawn: float
    peak: float
    calls: int

    @property
    def reserved(self) -> float:
        """US dollars that are drawn and in no book."""
        return self.drawn - self.books

    @property
    def wrong(self) -> list[str]:
        """A sentence for everything that is wrong."""
        said = [f"{count} requests raised {name}" for name, count in self.broken.items()]
        if self.endings[Ending.BUDGET]:
            said.append(f"{self.endings[Ending.BUDGET]} requests were refused for the budget")
        if abs(self.reserved) > NEAR:
            said.append(f"{self.reserved:.6f} US dollars stay reserved")
        if not self.calls or not self.peak:
            said.append(f"{self.calls} calls reserved {self.peak:.6f} US dollars: nothing was tried")
        return said


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_bundle_argument(parser)
    parser.add_argument(
        "--fakes", type=Path, default=FOLDER, help="folder of the fakes (default: %(default)s)"
    )
    parser.add_argument("--requests", type=positive, default=200, help="of each behaviour (default 200)")
    parser.add_argument("--only", help="comma-separated behaviours (default: all)")
    parser.add_argument("--at-once", type=positive, default=8, help="requests under way (default 8)")
    parser.add_argument("--markdown", type=Path, help="also write the page to this file")


def run(arguments: argparse.Namespace) -> int:
    """Ask, and print what is left drawn; 1 if anything is.

    Raises:
        BenchmarkError: a fake does not start.
    """
    if not present(arguments.fakes):
        sys.stderr.write(f"no fake vendors in {arguments.fakes}: name their folder with --fakes\n")
        return 0
    wanted = set(arguments.only.split(",")) if arguments.only else None
    with ExitStack() as stack:
        stack.enter_context(_silent(logging.getLogger("service")))
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fakes = {wire: stack.enter_context(running_fake(arguments.fakes, wire, logs)) for wire in PROGRAMS}
        cells = [
            Cell(wire, behaviour, mode)
            for wire in PROGRAMS
            for behaviour in behaviours(arguments.fakes, wire)
            for mode in MODES
            if wanted is None or behaviour in wanted
        ]
        found = asyncio.run(_ask(cells, fakes, bundle_of(arguments).catalogue, arguments))
    page = _page(found, arguments)
    sys.stdout.write(page)
    if arguments.markdown:
        write_text(arguments.markdown, page)
    return int(any(spent.wrong for spent in found.values()))


@contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Let a logger say nothing while the block runs: thousands of failures are meant to happen."""
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


async def _ask(
    cells: Sequence[Cell], fakes: dict[str, Fake], catalogue: Catalogue, arguments: argparse.Namespace
) -> dict[Cell, Spent]:
    building = Calls(catalogue)
    strategy = STRATEGIES[STRATEGY]
    try:
        cohort = Cohort(catalogue, EvaluationProtocol(), USERS, seed=0)
        calls = [await building.ranking(case, strategy, "label", K) for case in cohort]
    finally:
        await building.close()
    found = {}
    with tqdm(total=len(cells) * arguments.requests, unit="request", disable=None) as bar:
        for cell in cells:
            found[cell] = await _spend(cell, fakes[cell.wire], calls, arguments.requests, arguments.at_once)
            bar.update(arguments.requests)
    return found


async def _spend(cell: Cell, fake: Fake, calls: Sequence[Call], requests: int, at_once: int) -> Spent:
    """Make the requests of one cell, through a gateway of its own."""
    name = PROVIDERS[cell.wire]
    settings = _settings(cell, fake, name)
    prices = Prices({cell.behaviour: PRICED}, datetime.date.today())
    metrics, meters = Metrics(), WatchedMeters()
    stores = Stores(MemoryCache(0), MemoryEvents(), meters, meters, leases=None, shared=False)
    providers = open_providers(settings, prices, only=name)
    gateway = open_gateway(settings, providers, prices, metrics, stores)
    before = fake.calls()[cell.behaviour]
    gate = asyncio.Semaphore(at_once)

    async def one(call: Call) -> str:
        asking = replace(call, model=cell.behaviour, stream=cell.mode == "stream")
        async with gate:
            return (await gateway.call(name, asking, DEADLINE)).ending.value

    turns = itertools.islice(itertools.cycle(calls), requests)
    ended = await asyncio.gather(*map(one, turns), return_exceptions=True)
    try:
        await gateway.close()
    except Exception as error:  # books that break are what is looked for
        ended.append(error)
    return Spent(
        Counter(each for each in ended if isinstance(each, str)),
        Counter(type(each).__name__ for each in ended if isinstance(each, BaseException)),
        sum(
            sample.value
            for family in metrics.lvlm_cost.collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        ),
        meters.drawn,
        meters.peak,
        fake.calls()[cell.behaviour] - before,
    )


def _settings(cell: Cell, fake: Fake, provider: str) -> Settings:
    """A service that knows this one model, whatever the environment says."""
    compatible = {}
    if cell.wire == "openai":
        compatible = {provider: CompatibleProvider(base_url=f"{fake.url}/v1", models=(cell.behaviour,))}
    return Settings(
        provider=provider,
        model="",
        compatible=compatible,
        anthropic_api_key="rehearsal",
        anthropic_base_url=fake.url,
        anthropic_models=(cell.behaviour,),
        budget_usd_per_day=USD_PER_DAY,
        budget_usd_per_hour=None,
        lvlm_hedge=0,
        lvlm_limits={},
        fallbacks=(),
        cassette=None,
    )


def _page(found: dict[Cell, Spent], arguments: argparse.Namespace) -> str:
    requests = sum((spent.endings for spent in found.values()), Counter())
    reserved = max(abs(spent.reserved) for spent in found.values())
    sentences = [
        f"- {cell.wire} {cell.behaviour}, {cell.mode}: {'; '.join(spent.wrong)}\n"
        for cell, spent in found.items()
        if spent.wrong
    ]
    return "\n".join(
        (
            "## What stays reserved of a budget, whatever servers send\n",
            machine.describe(machine.facts())
            + f"- {arguments.requests} requests for each behaviour of each fake × {' and '.join(MODES)}, "
            + f"{arguments.at_once} at a time, under {USD_PER_DAY:g} US dollars a day\n"
            + f"- command: `{arguments.command_line}`\n",
            _table(found).markdown(),
            "Requests by how they ended; a model that keeps failing is left alone, so not each of them is a "
            "call. At the peak: drawn from the budget at one moment. Reserved: drawn and in no book when all "
            "was over. The fakes have no account: nothing of it was spent.\n",
            f"- requests refused for the budget: {requests[Ending.BUDGET]}\n"
            f"- most that stays reserved, US dollars: {reserved:.6f}\n"
            f"- cells that are not as they must be: {len(sentences)}\n" + "".join(sentences),
        )
    )


def _table(found: dict[Cell, Spent]) -> Table:
    return Table(
        ("fake, behaviour, mode", "ended", "calls", "US dollars in the books", "at the peak", "reserved"),
        tuple(
            (
                f"{cell.wire}, {cell.behaviour}, {cell.mode}",
                ", ".join(f"{name} {count}" for name, count in (spent.endings + spent.broken).items()),
                str(spent.calls),
                f"{spent.books:.6f}",
                f"{spent.peak:.6f}",
                f"{spent.reserved:.6f}" if abs(spent.reserved) > NEAR else "0",
            )
            for cell, spent in found.items()
        ),
    )
