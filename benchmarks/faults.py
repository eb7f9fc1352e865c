"""``faults``: every fault of the simulator, for every strategy, both wire formats, plain and streaming.

Whatever the provider does, the answer must be a 200 with ``k`` different items of the pool, in time, with the
right outcome; and afterwards our books must be the simulator's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from tqdm import tqdm

from benchmarks import machine
from benchmarks.client import Reply, ServiceClient
from benchmarks.errors import BenchmarkError
from benchmarks.files import write_text
from benchmarks.options import add_bundle_argument, bundle_of, positive
from benchmarks.rounds import Limit, Ratio
from benchmarks.servers import free_port, running
from benchmarks.stats import median
from benchmarks.tables import Table

HOST = "127.0.0.1"
STRATEGIES = ("s1", "s3", "s4", "s5")
WIRES = {"openai": "gpt-4o", "anthropic": "claude-haiku-4-5"}
MODES = ("stream", "plain")
HISTORY, POOL, K = 10, 30, 10
DEADLINE, HANGING_DEADLINE = 2.0, 0.8
"""Seconds for an answer; less where the provider hangs, so that the matrix ends."""
CALL_SECONDS = 8.0
"""For which a call may go on when nobody waits."""
DELAY = 2.5
"""Seconds of stragglers and stalls: past the deadline, within the call."""
LATENESS = Limit("worst median lateness in ms", most=50)
TOTALS = Limit("our total by the simulator's, with estimates", least=0.98, most=1.02)

HEALTHY = "healthy"
DEADLINE_STREAM = {"stream": ("partial",), "plain": ("fallback_deadline",)}

EXPECTED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    name: outcomes if isinstance(outcomes, dict) else dict.fromkeys(MODES, outcomes)
    for names, outcomes in (
        ((HEALTHY, "prose", "fence", "lowercase", "titles"), ("ok",)),
        # Refused or broken: tried again as far as that makes sense, then the candidate order.
        (("400", "401", "413", "429", "500", "504", "529"), ("fallback_provider",)),
        (("reset", "reset_midstream", "error_in_stream", "truncated"), ("fallback_provider",)),
        (("black_hole", "straggler"), ("fallback_deadline",)),
        # What had arrived of a stream at the deadline is kept; a plain answer has no half.
        (("drip", "stall", "endless"), DEADLINE_STREAM),
        (("refusal", "empty", "no_json"), ("fallback_answer",)),
        (("duplicate", "missing", "unknown", "half_label"), ("repaired",)),
    )
    for name in names
}
"""Fault -> mode -> the outcomes that are right."""

HANGING = ("black_hole", "drip", "straggler", "stall", "endless")
BOOKS = ("input", "output", "cached_input", "image")


@dataclass(frozen=True)
class Cell:
    """One fault as one strategy meets it on one wire in one mode; each has a model name of its own."""

    fault: str
    strategy: str
    wire: str
    mode: str

    @property
    def model(self) -> str:
        """A deployment of the wire's model, so that it has that model's price."""
        return f"{WIRES[self.wire]}@{self.fault}-{self.strategy}-{self.mode}"

    @property
    def deadline(self) -> float:
        """Seconds."""
        return HANGING_DEADLINE if self.fault in HANGING else DEADLINE


@dataclass(frozen=True)
class Books:
    """What calls took, as one side has it.

    Attributes:
        tokens: by kind: input, output, cached_input and image.
        dollars: US dollars.
    """

    calls: float
    tokens: Mapping[str, float]
    dollars: float


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
        BenchmarkError: a server does not start, or a fault is not known.
    """
    faults = arguments.faults.split(",") if arguments.faults else list(EXPECTED)
    unknown = [name for name in faults if name not in EXPECTED]
    if unknown:
        raise BenchmarkError(f"no fault {unknown[0]!r}; known are {', '.join(EXPECTED)}")
    cells = [Cell(f, s, w, m) for f in faults for s in STRATEGIES for w in WIRES for m in MODES]
    items = [item.item_id for item in bundle_of(arguments).catalogue.items]
    matrix = Matrix(cells, items, arguments.rounds)
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

    def __init__(self, cells: Sequence[Cell], items: Sequence[str], rounds: int) -> None:
        self.cells = cells
        self.rounds = rounds
        self.replies: dict[Cell, list[Reply]] = {cell: [] for cell in cells}
        self.wrong: list[str] = []
        self.attempts: dict[str, float] = {}
        self._items = items
        self._services: dict[str, int] = {}
        self._simulator = ""

    def start(self, stack: ExitStack, bundle: Path) -> None:
        """Start a simulator with the faults, and a service for each mode."""
        port = free_port()
        self._simulator = f"http://{HOST}:{port}"
        pace = ["--ttft", "0.05", "--tokens-per-second", "400", "--prompt-cache"]
        stack.enter_context(running("service.simulator", ["--port", str(port), *pace], {}, port, None))
        script = {
            cell.model: {"fault": cell.fault, "retry_after": 0.1, "delay": DELAY}
            for cell in self.cells
            if cell.fault != HEALTHY
        }
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
                    await self._ask(client, Cell(HEALTHY, "s3", wire, "warm"), self._body(draw, 30.0))
            send("DELETE", f"{self._simulator}/ledger")
            before = {mode: await client.metrics() for mode, client in clients.items()}
            with tqdm(total=len(self.cells) * self.rounds, unit="answer", disable=None) as bar:

                async def one(cell: Cell) -> None:
                    body = self._body(draw, cell.deadline)
                    async with gate:
                        reply = await self._ask(clients[cell.mode], cell, body)
                        if cell.fault == HEALTHY:  # once more, so that the vendor bills cached tokens
                            await self._ask(clients[cell.mode], cell, body, cache="refresh")
                    self.replies[cell].append(reply)
                    bar.update()

                for _ in range(self.rounds):
                    order = draw.sample(self.cells, len(self.cells))
                    await asyncio.gather(*map(one, order))
            await asyncio.sleep(CALL_SECONDS + 1)  # what is still under way ends
            after = {mode: await client.metrics() for mode, client in clients.items()}
        self._metrics = {mode: _delta(before[mode], after[mode]) for mode in MODES}

    def compare(self) -> dict[tuple[str, str], tuple[Books, Books, bool]]:
        """Our books and the simulator's, by wire and mode; wrong ones are noted.

        Returns:
            Ours, the simulator's, and whether all calls whose usage arrived are equal.
        """
        rows = json.loads(send("GET", f"{self._simulator}/ledger"))
        found = {}
        for wire in WIRES:
            for mode in MODES:
                equal = True
                for cell in self.cells:
                    if (cell.wire, cell.mode) == (wire, mode):
                        equal &= self._compare_cell(cell, [r for r in rows if r["model"] == cell.model])
                theirs = [r for r in rows if _belongs(r["model"], wire, mode)]
                found[wire, mode] = (self._ours(wire, mode), _theirs(theirs), equal)
        for cell in self.cells:
            self._check(cell)
        self._check_counters()
        return found

    def _compare_cell(self, cell: Cell, rows: Sequence[Mapping[str, Any]]) -> bool:
        ours, theirs = self._ours(cell.wire, cell.mode, cell.model), _theirs(rows)
        self.attempts[cell.fault] = max(self.attempts.get(cell.fault, 0.0), theirs.calls / self.rounds)
        estimated = sum(self._estimated(cell).values())
        if ours.calls != theirs.calls:
            self.wrong.append(f"{cell.model}: we count {ours.calls:g} calls, the simulator {theirs.calls:g}")
            return False
        if estimated:  # usage did not arrive for some calls: the totals are compared
            return True
        same = ours.tokens == theirs.tokens and abs(ours.dollars - theirs.dollars) < 1e-9
        if not same:
            self.wrong.append(f"{cell.model}: our books {ours}, the simulator's {theirs}")
        return same

    def _check(self, cell: Cell) -> None:
        for reply in self.replies[cell]:
            items = [item["item_id"] for item in reply.body.get("items", ())]
            outcome = reply.body.get("outcome")
            if reply.status != 200 or len(items) != K or len(set(items)) != K:
                self.wrong.append(f"{cell.model}: {reply.error or f'{len(set(items))} different items'}")
            elif outcome not in EXPECTED[cell.fault][cell.mode]:
                self.wrong.append(f"{cell.model}: outcome {outcome}")
            elif reply.body["served"] != ("none" if outcome.startswith("fallback") else cell.strategy):
                self.wrong.append(f"{cell.model}: served {reply.body['served']} with {outcome}")

    def _check_counters(self) -> None:
        """The counters of fallbacks and repairs say what the answers said."""
        for mode in MODES:
            bodies = [r.body for c in self.cells if c.mode == mode for r in self.replies[c]]
            fallbacks = Counter(b["outcome"] for b in bodies if b.get("outcome") not in ("ok", "repaired"))
            counted = self._sums(mode, "msr_fallbacks_total", "reason")
            if dict(fallbacks) != counted:
                self.wrong.append(f"{mode}: fallbacks answered {dict(fallbacks)}, counted {counted}")
            # A call that went on after its request was answered is counted when it ends.
            repairs = self._sums(mode, "msr_lvlm_repairs_total", "kind", without=HANGING)
            told = [b["lvlm"] for b in bodies if b.get("lvlm") and b["outcome"] != "partial"]
            for kind in ("invented", "duplicated"):
                answered = sum(each[kind] for each in told)
                if answered != repairs.get(kind, 0):
                    self.wrong.append(f"{mode}: {answered} {kind} answered, {repairs.get(kind)} counted")

    def lateness(self, fault: str) -> float:
        """Milliseconds past the deadline: the worst cell's median over rounds."""
        return max(
            1000 * (median([reply.seconds for reply in self.replies[cell]]) - cell.deadline)
            for cell in self.cells
            if cell.fault == fault
        )

    def outcomes(self, fault: str, wire: str, mode: str) -> str:
        """All outcomes of a fault on one wire in one mode."""
        found = Counter(
            str(reply.body.get("outcome"))
            for cell in self.cells
            if (cell.fault, cell.wire, cell.mode) == (fault, wire, mode)
            for reply in self.replies[cell]
        )
        return ", ".join(found)

    def _ours(self, wire: str, mode: str, model: str | None = None) -> Books:
        def total(name: str, **labels: str) -> float:
            wanted = {"provider": wire, **({"model": model} if model else {}), **labels}
            return sum(
                value
                for (sample, its), value in self._metrics[mode].items()
                if sample == name and wanted.items() <= dict(its).items() and "@" in dict(its)["model"]
            )

        tokens = {kind: total("msr_lvlm_tokens_total", direction=kind) for kind in BOOKS}
        calls = total("msr_lvlm_call_duration_seconds_count")
        return Books(calls, tokens, total("msr_lvlm_cost_usd_total"))

    def _estimated(self, cell: Cell) -> dict[str, float]:
        return {
            dict(labels)["direction"]: value
            for (name, labels), value in self._metrics[cell.mode].items()
            if name == "msr_lvlm_estimated_tokens_total" and dict(labels)["model"] == cell.model and value
        }

    def _sums(self, mode: str, name: str, label: str, without: Sequence[str] = ()) -> dict[str, int]:
        sums: Counter[str] = Counter()
        left_out = tuple(f"@{fault}-" for fault in without)
        for (sample, labels), value in self._metrics[mode].items():
            model = dict(labels).get("model", "")
            if sample == name and value and not any(part in model for part in left_out):
                sums[dict(labels)[label]] += int(value)
        return dict(sums)

    def _body(self, draw: random.Random, deadline: float) -> dict[str, Any]:
        drawn = draw.sample(self._items, min(HISTORY + POOL, len(self._items)))
        return {
            "history": drawn[:HISTORY],
            "candidates": drawn[HISTORY:],
            "k": K,
            "deadline_ms": round(1000 * deadline),
        }

    async def _ask(
        self, client: ServiceClient, cell: Cell, body: Mapping[str, Any], cache: str = "use"
    ) -> Reply:
        options = {"strategy": cell.strategy, "provider": cell.wire, "model": cell.model, "cache": cache}
        return await client.recommend(body, options)

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
            "MSR_LVLM_STREAM": str(mode == "stream").lower(),
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


def _belongs(model: str | None, wire: str, mode: str) -> bool:
    return bool(model) and model.startswith(f"{WIRES[wire]}@") and model.endswith(f"-{mode}")  # type: ignore[union-attr]


def _theirs(rows: Iterable[Mapping[str, Any]]) -> Books:
    rows = list(rows)
    billed = [row for row in rows if row["billed_input_tokens"]]
    names = dict(
        zip(BOOKS, ("billed_input_tokens", "billed_output_tokens", "cached_input_tokens"), strict=False)
    )
    tokens = {kind: float(sum(row[name] for row in billed)) for kind, name in names.items()}
    tokens["image"] = float(sum(row["image_tokens"] for row in billed))
    return Books(float(len(rows)), tokens, sum(row["cost_usd"] for row in rows))


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
    books: Mapping[tuple[str, str], tuple[Books, Books, bool]],
    faults: Sequence[str],
    arguments: argparse.Namespace,
) -> tuple[str, bool]:
    ways = [(wire, mode) for wire in WIRES for mode in MODES]
    rows = [
        (
            fault,
            *(matrix.outcomes(fault, wire, mode) for wire, mode in ways),
            f"{matrix.attempts[fault]:.1f}",
            f"{matrix.lateness(fault):.0f}",
        )
        for fault in faults
    ]
    outcomes = Table(
        ("fault", *(f"{wire}, {mode}" for wire, mode in ways), "attempts", "ms past the deadline"),
        tuple(rows),
    )
    ledger = Table(
        ("books of", "calls", *BOOKS, "US dollars", "equal where usage arrived"),
        tuple(
            (f"{who}: {wire}, {mode}", *_figures(side), note)
            for (wire, mode), (ours, theirs, equal) in books.items()
            for who, side, note in (
                ("service", ours, "yes" if equal else "NO"),
                ("simulator", theirs, ""),
            )
        ),
    )
    worst = max(matrix.lateness(fault) for fault in faults)
    late = Ratio(worst, worst, worst)
    totals = [_share(books, kind) for kind in (*BOOKS, "dollars")]
    good = (
        not matrix.wrong and worst <= 50 and all(share is None or 0.98 <= share <= 1.02 for share in totals)
    )
    verdicts = [
        f"- every answer is a 200 with {K} different items of the pool, with the right outcome, counted: "
        + ("yes" if not matrix.wrong else f"NO, {len(matrix.wrong)} things are wrong"),
        f"- {LATENESS.verdict(late)}",
        *(
            f"- {kind}: {TOTALS.verdict(None if share is None else Ratio(share, share, share))}"
            for kind, share in zip((*BOOKS, "dollars"), totals, strict=True)
        ),
        *(f"- {sentence}" for sentence in matrix.wrong[:40]),
    ]
    answers = sum(map(len, matrix.replies.values()))
    page = "\n".join(
        (
            "## What the LVLM stage makes of everything that can go wrong\n",
            machine.describe(machine.facts())
            + f"- {len(matrix.cells)} cells (fault × {', '.join(STRATEGIES)} × wire × mode), "
            + f"{matrix.rounds} rounds, {answers} answers, {arguments.at_once} at a time\n"
            + f"- deadline {1000 * DEADLINE:.0f} ms, {1000 * HANGING_DEADLINE:.0f} ms for "
            + f"{', '.join(HANGING)}; k = {K} of {POOL} candidates\n"
            + f"- command: `{arguments.command_line}`\n",
            outcomes.markdown(),
            "Attempts per answer, the largest mean of a cell (a breaker opens after a refused key, and after "
            "ten attempts of which half fail). Milliseconds past the deadline as the client sees them: the "
            "worst cell's median over rounds; negative is early.\n",
            ledger.markdown(),
            "Tokens and US dollars of all attempts. Of calls that were cut the usage never arrives: those "
            "are estimated, and marked so.\n",
            "\n".join(verdicts) + "\n",
        )
    )
    return page, good


def _figures(books: Books) -> tuple[str, ...]:
    return (f"{books.calls:.0f}", *(f"{books.tokens[kind]:.0f}" for kind in BOOKS), f"{books.dollars:.6f}")


def _share(books: Mapping[tuple[str, str], tuple[Books, Books, bool]], kind: str) -> float | None:
    def figure(side: Books) -> float:
        return side.dollars if kind == "dollars" else side.tokens[kind]

    ours = sum(figure(pair[0]) for pair in books.values())
    theirs = sum(figure(pair[1]) for pair in books.values())
    return ours / theirs if theirs else None
