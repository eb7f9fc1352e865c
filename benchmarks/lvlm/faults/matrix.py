"""Sends the requests of the fault matrix to services whose simulator fails, and collects the results."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tqdm import tqdm

from benchmarks.errors import BenchmarkError
from benchmarks.lab.prometheus import Samples, added, samples
from benchmarks.lab.servers import running_service
from benchmarks.lab.service_client import Reply, ServiceClient
from benchmarks.lab.simulator_control import LedgerRow, SimulatorControl, running_simulator
from benchmarks.lvlm.faults.cells import ATTEMPTS, HEALTHY, MODES, POOL_SIZE, WIRES, FaultCell, K
from benchmarks.lvlm.faults.checks import Exchange
from service.catalogue.bundle import Catalogue

HISTORY = 10
"""Number of items in the history of every request."""
CALL_SECONDS = 8.0
"""Seconds after which a call is ended, also if its request was answered before (``MSR_LVLM_CALL_MS``)."""
SIMULATOR_OPTIONS = ("--ttft", "0.05", "--tokens-per-second", "400")
"""Options of the simulator: quick, so that a healthy answer is far within the deadline."""
METRICS = ("msr_lvlm_", "msr_fallbacks_")
"""Prefixes of the service's metrics that are compared with the answers and the simulator's ledger."""


@dataclass(frozen=True)
class Observed:
    """All results of one run of the matrix.

    Attributes:
        cells: cells that were asked.
        rounds: number of times that each cell was asked; a healthy one was asked twice as often.
        asked: requests and replies by cell.
        ledger: calls in the simulator's ledger, after the last one ended.
        metrics: increases of the service's metrics, by the mode of the service.
    """

    cells: Sequence[FaultCell]
    rounds: int
    asked: Mapping[FaultCell, Sequence[Exchange]]
    ledger: Sequence[LedgerRow]
    metrics: Mapping[str, Samples]


class Matrix:
    """All cells, with the servers that they are tried on: one simulator, and a service for each mode."""

    def __init__(
        self,
        cells: Sequence[FaultCell],
        simulator: SimulatorControl,
        services: Mapping[str, str],
        catalogue: Catalogue,
    ) -> None:
        """Chooses the items of histories; sends no request.

        Args:
            cells: cells to try.
            simulator: simulator behind both services.
            services: address of the service, by mode.
            catalogue: catalogue of both services.

        Raises:
            BenchmarkError: too few items have captions.
        """
        self._cells = cells
        self._simulator = simulator
        self._services = services
        self._items = [item.item_id for item in catalogue.items]
        self._described = _described(catalogue)
        self._asked: dict[FaultCell, list[Exchange]] = {cell: [] for cell in cells}
        # Seeded: the same requests in every run.
        self._draw = random.Random(0)

    @classmethod
    @contextmanager
    def running(cls, cells: Sequence[FaultCell], bundle: Path, catalogue: Catalogue) -> Iterator[Self]:
        """Runs the servers, with the fault of each cell under the name of its model, until the block ends.

        Raises:
            BenchmarkError: one does not start, or too few items have captions.
        """
        with ExitStack() as stack:
            simulator = stack.enter_context(running_simulator(*SIMULATOR_OPTIONS, "--prompt-cache"))
            # Each cell has a model of its own, so that one simulator has all faults at once.
            script = {cell.model: cell.script for cell in cells if cell.fault != HEALTHY}
            simulator.set_faults({"by_model": script})
            services = {
                mode: stack.enter_context(running_service(bundle, _settings(cells, mode, simulator.url))).url
                for mode in MODES
            }
            yield cls(cells, simulator, services, catalogue)

    async def ask(self, rounds: int, at_once: int) -> Observed:
        """Asks every cell once per round, in an order drawn anew, with ``at_once`` requests under way."""
        async with (
            ServiceClient(self._services["stream"], at_once) as stream,
            ServiceClient(self._services["plain"], at_once) as plain,
        ):
            clients = {"stream": stream, "plain": plain}
            for client in clients.values():
                await self._warm_up(client)
            self._simulator.clear_ledger()
            before = await _scrape(clients)
            with tqdm(total=len(self._cells) * rounds, unit="answer", disable=None) as bar:
                gate = asyncio.Semaphore(at_once)
                for number in range(rounds):
                    order = self._draw.sample(range(len(self._cells)), len(self._cells))
                    # Every other cell is asked for an event stream, and in the next round the others are.
                    await asyncio.gather(
                        *(
                            self._ask_cell(
                                clients, self._cells[at], gate, bar, with_events=(at + number) % 2 == 1
                            )
                            for at in order
                        )
                    )
            await asyncio.sleep(CALL_SECONDS + 1)  # what is still under way ends
            after = await _scrape(clients)
        metrics = {mode: added(before[mode], after[mode]) for mode in MODES}
        return Observed(self._cells, rounds, self._asked, self._simulator.ledger(), metrics)

    async def _warm_up(self, client: ServiceClient) -> None:
        """Lets both SDKs load and connect before anything is timed."""
        await client.wait_until_ready()
        for wire in WIRES:
            await self._send(client, _warm(wire), self._body(30.0))

    async def _ask_cell(
        self,
        clients: Mapping[str, ServiceClient],
        cell: FaultCell,
        gate: asyncio.Semaphore,
        bar: tqdm[Any],
        *,
        with_events: bool,
    ) -> None:
        # A healthy cell is asked once more, so that the vendor bills cached tokens.
        caches = ("use", "refresh") if cell.fault == HEALTHY else ("use",)
        body = self._body(cell.deadline)
        # The same body twice for a healthy cell: the second call finds the vendor's prompt cache warm.
        pool = frozenset(body["candidates"])
        async with gate:
            for cache in caches:
                reply = await self._send(clients[cell.mode], cell, body, cache=cache, with_events=with_events)
                self._asked[cell].append(Exchange(pool, reply, with_events))
        bar.update()

    async def _send(
        self,
        client: ServiceClient,
        cell: FaultCell,
        body: Mapping[str, Any],
        *,
        cache: str = "use",
        with_events: bool = False,
    ) -> Reply:
        options = {"strategy": cell.strategy, "provider": cell.wire, "model": cell.model, "cache": cache}
        return await client.recommend(body, options, with_events=with_events)

    def _body(self, deadline: float) -> dict[str, Any]:
        history = self._draw.sample(self._described, HISTORY)
        # A candidate that is in the history would be excluded from the answer.
        others = [item for item in self._items if item not in history]
        return {
            "history": history,
            "candidates": self._draw.sample(others, min(POOL_SIZE, len(others))),
            "k": K,
            "deadline_ms": round(1000 * deadline),
        }


def _warm(wire: str) -> FaultCell:
    """Makes a cell for the warm-up, which is on no page."""
    return FaultCell(HEALTHY, "s3", wire, "warm")


async def _scrape(clients: Mapping[str, ServiceClient]) -> dict[str, Samples]:
    return {mode: samples(await client.metrics(), METRICS) for mode, client in clients.items()}


def _settings(cells: Sequence[FaultCell], mode: str, simulator: str) -> dict[str, str]:
    models = {
        wire: ",".join(
            [
                _warm(wire).model,
                *(cell.model for cell in cells if (cell.wire, cell.mode) == (wire, mode)),
            ]
        )
        for wire in WIRES
    }
    return {
        "MSR_PROVIDER": "openai",
        "MSR_MODEL": "",
        "MSR_CAPTIONER": "",
        "MSR_LVLM_STREAM": str(mode == "stream").lower(),
        "MSR_LVLM_ATTEMPTS": str(ATTEMPTS),
        "MSR_LVLM_HEDGE": "0",  # attempts are counted, and one that is slow by chance must not be hedged
        "MSR_LVLM_CALL_MS": str(round(1000 * CALL_SECONDS)),
        # Without this, simulated calls are free, and there would be no dollars to compare.
        "MSR_SIMULATOR_BILLS": "true",
        "MSR_LOG_LEVEL": "error",
        "OPENAI_API_KEY": "rehearsal",
        # The vendors' own providers, pointed at the simulator.
        "MSR_OPENAI_BASE_URL": f"{simulator}/v1",
        "MSR_OPENAI_MODELS": models["openai"],
        "ANTHROPIC_API_KEY": "rehearsal",
        "MSR_ANTHROPIC_BASE_URL": simulator,
        "MSR_ANTHROPIC_MODELS": models["anthropic"],
    }


def _described(catalogue: Catalogue) -> list[str]:
    """Lists ids of items for histories: those with a caption, since a missing one would cause a further call.

    Raises:
        BenchmarkError: the catalogue has too few of them.
    """
    captioned = {row for captions in catalogue.captions.values() for row in captions}
    items = catalogue.items
    found = [items[row].item_id for row in range(len(items)) if row in captioned or not items[row].image]
    if len(found) < HISTORY:
        raise BenchmarkError(f"the bundle has captions of only {len(found)} items: {HISTORY} are needed")
    return found
