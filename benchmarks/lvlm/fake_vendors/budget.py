"""Command ``budget``: makes many requests of every behaviour of the fake vendors, and checks the budget.

Each call's reservation must be settled, whatever the server sends: no request may be refused because of the
budget, and in the end the budget's total must equal the service's metrics of cost (the page calls them
books).

The service's gateway and providers run in this process, over real sockets; each behaviour has a price, so
that each call reserves dollars.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tqdm import tqdm

from benchmarks.lab.cases import Cohort
from benchmarks.lab.lvlm_calls import CallBuilder
from benchmarks.lab.options import add_bundle_argument, bundle_of, positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lvlm.fake_vendors.expectations import STRATEGY, K
from benchmarks.lvlm.fake_vendors.programs import (
    MODES,
    BehaviourCell,
    FakeVendor,
    add_fake_vendor_arguments,
    cells_of,
    missing,
    running_fake_vendors,
)
from models import machine
from models.printed_table import Table
from service.catalogue.bundle import Catalogue
from service.lvlm.cost.prices import ModelPrice, Prices
from service.lvlm.cost.tokens import UNKNOWN_FAMILY
from service.lvlm.provider_attempt import Ending
from service.lvlm.providers.base import Call
from service.lvlm.providers.openai.settings import CompatibleProvider
from service.metrics import Metrics
from service.settings import Settings
from service.stores.base import Sum
from service.stores.memory import MemoryCache, MemoryMeters
from service.stores.worker_stores import Stores
from service.strategies import STRATEGIES
from service.wiring.lvlm import GatewayOptions, open_gateway
from service.wiring.providers import open_providers

USD_PER_DAY = 1_000.0
"""US dollars, far above the cost of all requests: a refusal means that reservations were not settled."""
PRICED = ModelPrice(2.5, 1.25, 2.5, 10.0, UNKNOWN_FAMILY, None)
"""Price of every behaviour's model, in US dollars per million tokens: gpt-4o's."""
USERS = 20
"""Number of users, whose prompts are sent in turns."""
DEADLINE = 10.0
"""Seconds for one request; after them it ends without an answer."""
PROVIDERS = {"openai": "fake", "anthropic": "anthropic"}
"""Name of the provider, by wire format."""
MAX_ROUNDING = 1e-6
"""US dollars by which equal sums of floats may differ; a larger difference stays reserved."""


class RecordingMeters(MemoryMeters):
    """Meters in memory that also record the sum of all amounts that were added and not given back.

    Attributes:
        drawn: US dollars in all totals now.
        peak: highest value of ``drawn`` so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.drawn = self.peak = 0.0

    async def settle(self, sums: Sequence[Sum]) -> None:
        """Adds to all totals, even beyond their limits, and records the amounts."""
        self.drawn += sum(each.amount for each in sums)
        self.peak = max(self.peak, self.drawn)
        await super().settle(sums)


@dataclass(frozen=True)
class Spending:
    """Endings and costs of all requests of a cell.

    Attributes:
        endings: number of requests by their ending.
        broken: number of requests that raised an exception, by its name.
        metrics_usd: US dollars by the service's metrics.
        drawn: US dollars drawn from the budget after the last request.
        peak: highest number of US dollars drawn at one moment.
        calls: number of calls that the fake vendor received.
    """

    endings: Counter[str]
    broken: Counter[str]
    metrics_usd: float
    drawn: float
    peak: float
    calls: int

    @property
    def reserved(self) -> float:
        """US dollars that are drawn and in no metric: reservations that were not settled."""
        return self.drawn - self.metrics_usd

    @property
    def problems(self) -> list[str]:
        """Sentences about everything that is wrong."""
        said = [f"{count} requests raised {name}" for name, count in self.broken.items()]
        if self.endings[Ending.BUDGET]:
            said.append(f"{self.endings[Ending.BUDGET]} requests were refused for the budget")
        if abs(self.reserved) > MAX_ROUNDING:
            said.append(f"{self.reserved:.6f} US dollars stay reserved")
        # A cell whose calls reserve nothing would pass every other check.
        if not self.calls or not self.peak:
            said.append(f"{self.calls} calls reserved {self.peak:.6f} US dollars: nothing was tried")
        return said


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_bundle_argument(parser)
    add_fake_vendor_arguments(parser)
    parser.add_argument("--requests", type=positive, default=200, help="of each behaviour (default 200)")
    parser.add_argument("--at-once", type=positive, default=8, help="requests under way (default 8)")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code, 1 if dollars stay reserved or a request went wrong.

    Raises:
        BenchmarkError: a fake does not start.
    """
    if missing(arguments):
        return 0
    with _silent(logging.getLogger("service")), running_fake_vendors(arguments.fakes) as fakes:
        found = asyncio.run(_ask(cells_of(arguments), fakes, bundle_of(arguments).catalogue, arguments))
    page = _page(found, arguments)
    publish(page, arguments.markdown)
    return int(any(spent.problems for spent in found.values()))


@contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Silences a logger while the block runs, in which thousands of failures are expected."""
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


async def _ask(
    cells: Sequence[BehaviourCell],
    fakes: Mapping[str, FakeVendor],
    catalogue: Catalogue,
    arguments: argparse.Namespace,
) -> dict[BehaviourCell, Spending]:
    building = CallBuilder(catalogue)
    strategy = STRATEGIES[STRATEGY]
    try:
        cohort = Cohort(catalogue, USERS, seed=0)
        calls = [await building.ranking(case, strategy, "label", K) for case in cohort]
    finally:
        await building.close()
    found = {}
    with tqdm(total=len(cells) * arguments.requests, unit="request", disable=None) as bar:
        for cell in cells:
            # One cell after the other, each with a gateway, meters and metrics of its own.
            found[cell] = await _spend(cell, fakes[cell.wire], calls, arguments.requests, arguments.at_once)
            bar.update(arguments.requests)
    return found


async def _spend(
    cell: BehaviourCell, fake: FakeVendor, calls: Sequence[Call], requests: int, at_once: int
) -> Spending:
    """Makes the requests of one cell, through a gateway of its own."""
    name = PROVIDERS[cell.wire]
    settings = _settings(cell, fake, name)
    prices = Prices({cell.behaviour: PRICED}, datetime.date.today())
    metrics, meters = Metrics(), RecordingMeters()
    stores = Stores.in_memory(MemoryCache(0), meters)
    providers = open_providers(settings, prices.image_detail, only=name)
    gateway = open_gateway(GatewayOptions.of(settings), providers, stores, metrics, prices=prices)
    # The fake vendor has one log for all cells.
    before = fake.calls()[cell.behaviour]
    gate = asyncio.Semaphore(at_once)

    async def one(call: Call) -> str:
        asking = replace(call, model=cell.behaviour, stream=cell.mode == "stream")
        async with gate:
            return (await gateway.call(name, asking, DEADLINE)).ending.value

    # A few prompts again and again: the settling does not depend on them.
    turns = itertools.islice(itertools.cycle(calls), requests)
    ended = await asyncio.gather(*map(one, turns), return_exceptions=True)
    try:
        await gateway.close()
    except Exception as error:  # a failure to settle is a finding
        ended.append(error)
    return Spending(
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


def _settings(cell: BehaviourCell, fake: FakeVendor, provider: str) -> Settings:
    """Makes the settings of a service with this one model, independent of the environment."""
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
        # The environment may set these.
        budget_usd_per_hour=None,
        lvlm_hedge=0,
        lvlm_limits={},
        fallbacks=(),
        cassette=None,
    )


def _page(found: dict[BehaviourCell, Spending], arguments: argparse.Namespace) -> str:
    requests = sum((spent.endings for spent in found.values()), Counter())
    reserved = max(abs(spent.reserved) for spent in found.values())
    sentences = [
        f"- {cell}: {'; '.join(spent.problems)}\n" for cell, spent in found.items() if spent.problems
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


def _table(found: dict[BehaviourCell, Spending]) -> Table:
    return Table(
        ("fake, behaviour, mode", "ended", "calls", "US dollars in the books", "at the peak", "reserved"),
        tuple(
            (
                f"{cell.wire}, {cell.behaviour}, {cell.mode}",
                ", ".join(f"{name} {count}" for name, count in (spent.endings + spent.broken).items()),
                str(spent.calls),
                f"{spent.metrics_usd:.6f}",
                f"{spent.peak:.6f}",
                f"{spent.reserved:.6f}" if abs(spent.reserved) > MAX_ROUNDING else "0",
            )
            for cell, spent in found.items()
        ),
    )
