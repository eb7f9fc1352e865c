"""``faults``: every fault of the simulator, for every strategy, both wire formats, plain and streaming.

Whatever the provider does, the answer must be a 200 with ``k`` different items of the pool, in time, with the
right outcome; and afterwards our counters and books must be the simulator's. What is right for which fault is
in `fault_checks`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from tqdm import tqdm

from benchmarks import machine
from benchmarks.client import Reply, ServiceClient
from benchmarks.dollars import SIMULATED
from benchmarks.errors import BenchmarkError
from benchmarks.fault_checks import (
    ATTEMPTS,
    BOOKS,
    DEADLINE,
    EXPECTED,
    HANGING,
    HANGING_DEADLINE,
    HEALTHY,
    MODES,
    NOTHING,
    POOL,
    WIRES,
    Asked,
    Books,
    Cell,
    K,
    Row,
    cut,
    refused_field,
    wrong_answers,
    wrong_attempts,
    wrong_books,
    wrong_refusals,
    wrong_repairs,
)
from benchmarks.files import write_text
from benchmarks.options import add_bundle_argument, bundle_of, positive
from benchmarks.rounds import Limit, Ratio
from benchmarks.servers import free_port, running
from benchmarks.stats import median
from benchmarks.tables import Table
from service.catalogue.bundle import Catalogue

HOST = "127.0.0.1"
STRATEGIES = ("s1", "s3", "s4", "s5")
HISTORY = 10
CALL_SECONDS = 8.0
"""For which a call may go on when nobody waits."""
MOST_SHOWN = 40
"""Sentences about single cells."""
_FIGURES = re.compile(r"\{.*?\}")
_CELL = re.compile(r"^\S+@(\w+)-s\d-(?:stream|plain)")
LATENESS = Limit("worst median lateness in ms", most=50)
TOTALS = Limit("our total by the simulator's, with estimates", least=0.98, most=1.02)
CUT = Limit("ours by the simulator's, of calls whose usage never arrived", least=0.98, most=1.02)


@dataclass(frozen=True)
class Side:
    """Our books and the simulator's, of one wire in one mode.

    Attributes:
        equal: whether they are the same wherever usage arrived.
        cut: of the cells in which some usage never arrived: ours and the simulator's.
    """

    ours: Books
    theirs: Books
    equal: bool
    cut: tuple[Books, Books]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_bundle_argument(parser)
    parser.add_argument("--rounds", type=positive, default=3, help="of every cell (default 3)")
    parser.add_argument("--at-once", type=positive, default=8, help="requests under way (default 8)")
    parser.add_argument("--faults", help=f"comma-separated (default all): {','.join(EXPECTED)}")
    parser.add_argument("--markdown", type=Path, help="also write the page to this file")


def run(arguments: argparse.Namespace) -> int:
    """Run the matrix and print; 1 if anything is not as it must be.

    Raises:
        BenchmarkError: a server does not start, a fault is not known, or the bundle has too few captions.
    """
    faults = arguments.faults.split(",") if arguments.faults else list(EXPECTED)
    unknown = [name for name in faults if name not in EXPECTED]
    if unknown:
        raise BenchmarkError(f"no fault {unknown[0]!r}; known are {', '.join(EXPECTED)}")
    cells = [Cell(f, s, w, m) for f in faults for s in STRATEGIES for w in WIRES for m in MODES]
    matrix = Matrix(cells, bundle_of(arguments).catalogue, arguments.rounds)
    with ExitStack() as stack:
        matrix.start(stack, arguments.bundle)
        asyncio.run(matrix.run(arguments.at_once))
        books = matrix.compare()
    page, good = _page(matrix, books, faults, arguments)
    sys.stdout.write(page)
    if arguments.markdown:
        write_text(arguments.markdown, page)
    return 0 if good else 1


class Matrix:
    """All cells, the servers they are tried on, and what came of it."""

    def __init__(self, cells: Sequence[Cell], catalogue: Catalogue, rounds: int) -> None:
        self.cells = cells
        self.rounds = rounds
        self.asked: dict[Cell, list[Asked]] = {cell: [] for cell in cells}
        self.wrong: list[str] = []
        self._items = [item.item_id for item in catalogue.items]
        self._described = _described(catalogue)
        self._services: dict[str, int] = {}
        self._simulator = ""

    def start(self, stack: ExitStack, bundle: Path) -> None:
        """Start a simulator with the faults, and a service for each mode."""
        port = free_port()
        self._simulator = f"http://{HOST}:{port}"
        pace = ["--ttft", "0.05", "--tokens-per-second", "400", "--prompt-cache"]
        stack.enter_context(running("service.simulator", ["--port", str(port), *pace], {}, port, None))
        script = {cell.model: cell.script for cell in self.cells if cell.fault != HEALTHY}
        send("PUT", f"{self._simulator}/faults", {"by_model": script})
        for mode in MODES:
            self._services[mode] = free_port()
            settings = self._settings(mode, bundle)
            stack.enter_context(running("service", [], settings, self._services[mode], None))

    async def run(self, at_once: int) -> None:
        """Ask every cell once per round, the cells in an order drawn anew."""
        gate = asyncio.Semaphore(at_once)
        draw = random.Random(0)
        async with (
            ServiceClient(self._url("stream"), at_once) as stream,
            ServiceClient(self._url("plain"), at_once) as plain,
        ):
            clients = {"stream": stream, "plain": plain}
            for client in clients.values():
                await client.until_ready()
                for wire in WIRES:  # the SDKs are loaded and connected before anything is timed
                    await self._send(client, Cell(HEALTHY, "s3", wire, "warm"), self._body(draw, 30.0))
            send("DELETE", f"{self._simulator}/ledger")
            before = {mode: await client.metrics() for mode, client in clients.items()}
            with tqdm(total=len(self.cells) * self.rounds, unit="answer", disable=None) as bar:

                async def one(cell: Cell, watched: bool) -> None:
                    body, client = self._body(draw, cell.deadline), clients[cell.mode]
                    async with gate:
                        await self._ask(client, cell, body, watched=watched)
                        if cell.fault == HEALTHY:  # once more, so that the vendor bills cached tokens
                            await self._ask(client, cell, body, cache="refresh", watched=watched)
                    bar.update()

                for number in range(self.rounds):
                    order = draw.sample(range(len(self.cells)), len(self.cells))
                    # In each round every other cell is watched, and in the next round the others are.
                    await asyncio.gather(*(one(self.cells[at], (at + number) % 2 == 1) for at in order))
            await asyncio.sleep(CALL_SECONDS + 1)  # what is still under way ends
            after = {mode: await client.metrics() for mode, client in clients.items()}
        self._metrics = {mode: _delta(before[mode], after[mode]) for mode in MODES}

    def compare(self) -> dict[tuple[str, str], Side]:
        """Our books and the simulator's, by wire and mode; everything that is wrong is noted."""
        self._rows: defaultdict[str, list[Row]] = defaultdict(list)
        self._refused: Counter[str] = Counter()
        for row in json.loads(send("GET", f"{self._simulator}/ledger")):
            if refused_field(row):
                self._refused[row["model"]] += 1
            else:
                self._rows[row["model"]].append(row)
        for model in self._rows.keys() - {cell.model for cell in self.cells}:
            self.wrong.append(f"{model}: {len(self._rows[model])} calls that nobody asked for")
        for cell in self.cells:
            self.wrong += [f"{cell.model}: {sentence}" for sentence in self._wrong(cell)]
        self._check_fallbacks()
        return {(wire, mode): self._side(wire, mode) for wire in WIRES for mode in MODES}

    def _wrong(self, cell: Cell) -> Iterator[str]:
        asked, rows = self.asked[cell], self._rows[cell.model]
        yield from wrong_answers(cell, asked)
        yield from wrong_attempts(cell, len(asked), rows, sum(self._sums(cell, "retries", "reason").values()))
        yield from wrong_refusals(cell, self._refused[cell.model])
        yield from wrong_repairs(cell, asked, self._sums(cell, "repairs", "kind"))
        yield from self._wrong_books(cell)

    def _wrong_books(self, cell: Cell) -> Iterator[str]:
        estimated = self._sums(cell, "estimated_tokens", "direction")
        return wrong_books(self._ours(cell), estimated, self._rows[cell.model])

    def _side(self, wire: str, mode: str) -> Side:
        cells = [cell for cell in self.cells if (cell.wire, cell.mode) == (wire, mode)]
        of_cut = [cell for cell in cells if cut(self._rows[cell.model])]

        def books(some: Sequence[Cell]) -> tuple[Books, Books]:
            theirs = (Books.of(self._rows[cell.model]) for cell in some)
            return sum(map(self._ours, some), NOTHING), sum(theirs, NOTHING)

        equal = not any(sentence for cell in cells for sentence in self._wrong_books(cell))
        return Side(*books(cells), equal, books(of_cut))

    def _check_fallbacks(self) -> None:
        """The counter of fallbacks says what the answers said."""
        for mode in MODES:
            bodies = [one.reply.body for c in self.cells if c.mode == mode for one in self.asked[c]]
            fallbacks = Counter(
                b.get("outcome") for b in bodies if b.get("outcome") not in ("ok", "repaired")
            )
            counted = {
                dict(labels)["reason"]: value
                for (name, labels), value in self._metrics[mode].items()
                if name == "msr_fallbacks_total" and value
            }
            if fallbacks != counted:
                self.wrong.append(f"{mode}: fallbacks answered {dict(fallbacks)}, counted {counted}")

    def attempts(self, fault: str) -> str:
        """Attempts per answer: the means of the cell with the fewest and of the one with the most."""
        cells = [cell for cell in self.cells if cell.fault == fault]
        means = [len(self._rows[cell.model]) / len(self.asked[cell]) for cell in cells]
        low, high = f"{min(means):.1f}", f"{max(means):.1f}"
        return low if low == high else f"{low}–{high}"

    def lateness(self, fault: str) -> float:
        """Milliseconds past the deadline: the worst cell's median over rounds."""
        return max(
            1000 * (median([one.reply.seconds for one in self.asked[cell]]) - cell.deadline)
            for cell in self.cells
            if cell.fault == fault
        )

    def outcomes(self, fault: str, wire: str, mode: str) -> str:
        """All outcomes of a fault on one wire in one mode."""
        found = Counter(
            str(one.reply.body.get("outcome"))
            for cell in self.cells
            if (cell.fault, cell.wire, cell.mode) == (fault, wire, mode)
            for one in self.asked[cell]
        )
        return ", ".join(found)

    def _ours(self, cell: Cell) -> Books:
        calls = self._sums(cell, "call_duration_seconds", "provider", sample="count")
        tokens = self._sums(cell, "tokens", "direction")
        dollars = self._sums(cell, "cost_usd", "provider")
        by_kind = {kind: tokens.get(kind, 0.0) for kind in BOOKS}
        return Books(sum(calls.values()), by_kind, sum(dollars.values()))

    def _sums(self, cell: Cell, metric: str, label: str, sample: str = "total") -> dict[str, float]:
        """What a metric of the LVLM stage came to in a cell, by a label."""
        sums: defaultdict[str, float] = defaultdict(float)
        for (name, labels), value in self._metrics[cell.mode].items():
            its = dict(labels)
            here = name == f"msr_lvlm_{metric}_{sample}"
            # A cell's model is its own; dollars that the simulator cost stand under its name.
            if here and its["model"] == cell.model and its["provider"] in (cell.wire, "simulator"):
                sums[its[label]] += value
        return dict(sums)

    def _body(self, draw: random.Random, deadline: float) -> dict[str, Any]:
        history = draw.sample(self._described, HISTORY)
        others = [item for item in self._items if item not in history]
        return {
            "history": history,
            "candidates": draw.sample(others, min(POOL, len(others))),
            "k": K,
            "deadline_ms": round(1000 * deadline),
        }

    async def _ask(
        self,
        client: ServiceClient,
        cell: Cell,
        body: Mapping[str, Any],
        *,
        cache: str = "use",
        watched: bool = False,
    ) -> None:
        reply = await self._send(client, cell, body, cache=cache, watched=watched)
        self.asked[cell].append(Asked(frozenset(body["candidates"]), reply, watched))

    async def _send(
        self,
        client: ServiceClient,
        cell: Cell,
        body: Mapping[str, Any],
        *,
        cache: str = "use",
        watched: bool = False,
    ) -> Reply:
        options = {"strategy": cell.strategy, "provider": cell.wire, "model": cell.model, "cache": cache}
        return await client.recommend(body, options, watched=watched)

    def _url(self, mode: str) -> str:
        return f"http://{HOST}:{self._services[mode]}"

    def _settings(self, mode: str, bundle: Path) -> dict[str, str]:
        models = {
            wire: ",".join(
                [
                    Cell(HEALTHY, "s3", wire, "warm").model,
                    *(cell.model for cell in self.cells if (cell.wire, cell.mode) == (wire, mode)),
                ]
            )
            for wire in WIRES
        }
        return {
            "MSR_BUNDLE": str(bundle),
            "MSR_HOST": HOST,
            "MSR_PORT": str(self._services[mode]),
            "MSR_WORKERS": "1",
            "MSR_API_KEY": "",
            "MSR_REDIS_URL": "",
            "MSR_PROVIDER": "openai",
            "MSR_MODEL": "",
            "MSR_CAPTIONER": "",
            "MSR_LVLM_STREAM": str(mode == "stream").lower(),
            "MSR_LVLM_ATTEMPTS": str(ATTEMPTS),
            "MSR_LVLM_HEDGE": "0",  # attempts are counted: none beside one that is slow by chance
            "MSR_LVLM_CALL_MS": str(round(1000 * CALL_SECONDS)),
            "MSR_SIMULATOR_BILLS": "true",
            "MSR_LOG_LEVEL": "error",
            "OPENAI_API_KEY": "rehearsal",
            "MSR_OPENAI_BASE_URL": f"{self._simulator}/v1",
            "MSR_OPENAI_MODELS": models["openai"],
            "ANTHROPIC_API_KEY": "rehearsal",
            "MSR_ANTHROPIC_BASE_URL": self._simulator,
            "MSR_ANTHROPIC_MODELS": models["anthropic"],
        }


def _described(catalogue: Catalogue) -> list[str]:
    """Ids of the items that histories may hold: a missing caption would be asked for beside the answer.

    Raises:
        BenchmarkError: there are too few.
    """
    captioned = {row for captions in catalogue.captions.values() for row in captions}
    items = catalogue.items
    found = [items[row].item_id for row in range(len(items)) if row in captioned or not items[row].image]
    if len(found) < HISTORY:
        raise BenchmarkError(f"the bundle has captions of only {len(found)} items: {HISTORY} are needed")
    return found


def _delta(before: str, after: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    old, new = _samples(before), _samples(after)
    return {key: value - old.get(key, 0.0) for key, value in new.items()}


def _samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith(("msr_lvlm_", "msr_fallbacks_"))
    }


def send(method: str, url: str, content: object = None) -> bytes:
    """Ask the simulator's own pages for something.

    Raises:
        BenchmarkError: it does not do it.
    """
    data = None if content is None else json.dumps(content).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - our own server
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            answer: bytes = response.read()
            return answer
    except OSError as error:
        raise BenchmarkError(f"the simulator does not take {method} {url}: {error}") from error


def _page(
    matrix: Matrix,
    sides: Mapping[tuple[str, str], Side],
    faults: Sequence[str],
    arguments: argparse.Namespace,
) -> tuple[str, bool]:
    limits = held(max(map(matrix.lateness, faults)), sides)
    said = [
        f"- every answer is a 200 at once with {K} different items of its pool, with the right outcome; "
        "half of them are watched, and nothing that was told as the LVLM's is taken back; attempts, "
        "retries, refused fields, repairs, fallbacks and books are counted right: "
        + ("yes" if not matrix.wrong else f"NO, {len(matrix.wrong)} things are wrong"),
        *(f"- {what}: {limit.verdict(ratio)}" for what, limit, ratio in limits),
        *(f"- {sentence}" for sentence in shown(matrix.wrong)),
    ]
    page = "\n".join(
        (
            "## What the LVLM stage makes of everything that can go wrong\n",
            machine.describe(machine.facts())
            + f"- {len(matrix.cells)} cells (fault × {', '.join(STRATEGIES)} × wire × mode), "
            + f"{matrix.rounds} rounds, {len(matrix.cells) * matrix.rounds} answers and the healthy ones "
            + f"once more, {arguments.at_once} at a time\n"
            + f"- deadline {1000 * DEADLINE:.0f} ms, {1000 * HANGING_DEADLINE:.0f} ms for "
            + f"{', '.join(HANGING)}; k = {K} of {POOL} candidates\n"
            + f"- command: `{arguments.command_line}`\n",
            _outcome_table(matrix, faults).markdown(),
            "Attempts per answer: the least and the largest mean of a cell (Anthropic's Retry-After is in "
            "whole seconds, of which the deadline holds one; a breaker opens after a refused key, and after "
            "ten attempts of which half fail). Milliseconds past the deadline as the client sees them: the "
            "worst cell's median over rounds; negative is early.\n",
            _ledger_table(sides).markdown(),
            "Tokens and US dollars of all attempts. Of calls that were cut the usage never arrives: those "
            "are estimated, and marked so; the last two lines are the cells that have such calls.\n",
            "\n".join(said) + "\n",
        )
    )
    return page, not matrix.wrong and not any(limit.broken_by(ratio) for _, limit, ratio in limits)


def shown(wrong: Sequence[str]) -> list[str]:
    """What is wrong, cell by cell; if that is too much to read, how often what is wrong with each fault."""
    if len(wrong) <= MOST_SHOWN:
        return list(wrong)
    counted = Counter(_FIGURES.sub("{…}", _CELL.sub(r"\1", sentence)) for sentence in wrong)
    return [f"{sentence} ({count} times)" for sentence, count in counted.most_common(2 * MOST_SHOWN)]


def _outcome_table(matrix: Matrix, faults: Sequence[str]) -> Table:
    ways = [(wire, mode) for wire in WIRES for mode in MODES]
    return Table(
        ("fault", *(f"{wire}, {mode}" for wire, mode in ways), "attempts", "ms past the deadline"),
        tuple(
            (
                fault,
                *(matrix.outcomes(fault, wire, mode) for wire, mode in ways),
                matrix.attempts(fault),
                f"{matrix.lateness(fault):.0f}",
            )
            for fault in faults
        ),
    )


def _ledger_table(sides: Mapping[tuple[str, str], Side]) -> Table:
    rows = []
    for (wire, mode), side in sides.items():
        rows.append((f"service: {wire}, {mode}", *_figures(side.ours), "yes" if side.equal else "NO"))
        rows.append((f"simulator: {wire}, {mode}", *_figures(side.theirs), ""))
    ours, theirs = _cut(sides.values())
    rows.append(("service: where usage was cut", *_figures(ours), ""))
    rows.append(("simulator: where usage was cut", *_figures(theirs), ""))
    return Table(
        ("books of", "calls", *BOOKS, f"US dollars {SIMULATED}", "equal where usage arrived"), tuple(rows)
    )


def held(worst: float, sides: Mapping[tuple[str, str], Side]) -> list[tuple[str, Limit, Ratio | None]]:
    """What the matrix is held to: what of it, the limit, and what it came to."""
    ours = sum((side.ours for side in sides.values()), NOTHING)
    theirs = sum((side.theirs for side in sides.values()), NOTHING)
    ours_cut, theirs_cut = _cut(sides.values())
    return [
        ("answers", LATENESS, Ratio(worst, worst, worst)),
        *((kind, TOTALS, _share(ours.tokens[kind], theirs.tokens[kind])) for kind in BOOKS),
        ("US dollars", TOTALS, _share(ours.dollars, theirs.dollars)),
        ("input and output", CUT, _share(_taken(ours_cut), _taken(theirs_cut))),
        ("US dollars", CUT, _share(ours_cut.dollars, theirs_cut.dollars)),
    ]


def _cut(sides: Iterable[Side]) -> tuple[Books, Books]:
    """Of all cells in which some usage never arrived: ours and the simulator's."""
    sides = list(sides)
    return sum((side.cut[0] for side in sides), NOTHING), sum((side.cut[1] for side in sides), NOTHING)


def _taken(books: Books) -> float:
    return books.tokens["input"] + books.tokens["output"]


def _share(ours: float, theirs: float) -> Ratio | None:
    return Ratio(ours / theirs, ours / theirs, ours / theirs) if theirs else None


def _figures(books: Books) -> tuple[str, ...]:
    return (f"{books.calls:.0f}", *(f"{books.tokens[kind]:.0f}" for kind in BOOKS), f"{books.dollars:.6f}")
