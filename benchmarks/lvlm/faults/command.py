"""``faults``: every fault of the simulator, for every strategy, both wire formats, plain and streaming.

Whatever the provider does, the answer must be a 200 with ``k`` different items of the pool, in time, with the
right outcome; and afterwards our counters and books must be the simulator's. What is right for which fault is
in `fault_cells` and `fault_checks`.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.errors import BenchmarkError
from benchmarks.lab import machine
from benchmarks.lab.options import add_bundle_argument, bundle_of, positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.rounds import Limit, Ratio
from benchmarks.lab.tables import SIMULATED_MARK, Table
from benchmarks.lvlm.faults.cells import (
    DEADLINE,
    EXPECTED,
    HANGING,
    HANGING_DEADLINE,
    MODES,
    POOL,
    WIRES,
    Cell,
    K,
)
from benchmarks.lvlm.faults.findings import Findings
from benchmarks.lvlm.faults.ledgers import BOOKS, NOTHING, Books, Side
from benchmarks.lvlm.faults.matrix import Matrix, Observed

STRATEGIES = ("s1", "s3", "s4", "s5")
MOST_SHOWN = 40
"""Sentences about single cells."""
_FIGURES = re.compile(r"\{.*?\}")
_CELL = re.compile(r"^\S+@(\w+)-s\d-(?:stream|plain)")
LATENESS = Limit("worst median lateness in ms", most=50)
TOTALS = Limit("our total by the simulator's, with estimates", least=0.98, most=1.02)
CUT = Limit("ours by the simulator's, of calls whose usage never arrived", least=0.98, most=1.02)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_bundle_argument(parser)
    parser.add_argument("--rounds", type=positive, default=3, help="of every cell (default 3)")
    parser.add_argument("--at-once", type=positive, default=8, help="requests under way (default 8)")
    parser.add_argument("--faults", help=f"comma-separated (default all): {','.join(EXPECTED)}")
    add_markdown_argument(parser)


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
    with Matrix.running(cells, arguments.bundle, bundle_of(arguments).catalogue) as matrix:
        observed = asyncio.run(matrix.ask(arguments.rounds, arguments.at_once))
    page, good = _page(Findings(observed), observed, faults, arguments)
    publish(page, arguments.markdown)
    return 0 if good else 1


def _page(
    findings: Findings, observed: Observed, faults: Sequence[str], arguments: argparse.Namespace
) -> tuple[str, bool]:
    limits = held(max(map(findings.lateness, faults)), findings.sides)
    cells, rounds = len(observed.cells), observed.rounds
    said = [
        f"- every answer is a 200 at once with {K} different items of its pool, with the right outcome; "
        "half of them are watched, and nothing that was told as the LVLM's is taken back; attempts, "
        "retries, refused fields, repairs, fallbacks and books are counted right: "
        + ("yes" if not findings.wrong else f"NO, {len(findings.wrong)} things are wrong"),
        *(f"- {what}: {limit.verdict(ratio)}" for what, limit, ratio in limits),
        *(f"- {sentence}" for sentence in shown(findings.wrong)),
    ]
    page = "\n".join(
        (
            "## What the LVLM stage makes of everything that can go wrong\n",
            machine.describe(machine.facts())
            + f"- {cells} cells (fault × {', '.join(STRATEGIES)} × wire × mode), "
            + f"{rounds} rounds, {cells * rounds} answers and the healthy ones "
            + f"once more, {arguments.at_once} at a time\n"
            + f"- deadline {1000 * DEADLINE:.0f} ms, {1000 * HANGING_DEADLINE:.0f} ms for "
            + f"{', '.join(HANGING)}; k = {K} of {POOL} candidates\n"
            + f"- command: `{arguments.command_line}`\n",
            _outcome_table(findings, faults).markdown(),
            "Attempts per answer: the least and the largest mean of a cell (Anthropic's Retry-After is in "
            "whole seconds, of which the deadline holds one; a breaker opens after a refused key, and after "
            "ten attempts of which half fail). Milliseconds past the deadline as the client sees them: the "
            "worst cell's median over rounds; negative is early.\n",
            _ledger_table(findings.sides).markdown(),
            "Tokens and US dollars of all attempts. Of calls that were cut the usage never arrives: those "
            "are estimated, and marked so; the last two lines are the cells that have such calls.\n",
            "\n".join(said) + "\n",
        )
    )
    return page, not findings.wrong and not any(limit.broken_by(ratio) for _, limit, ratio in limits)


def shown(wrong: Sequence[str]) -> list[str]:
    """What is wrong, cell by cell; if that is too much to read, how often what is wrong with each fault."""
    if len(wrong) <= MOST_SHOWN:
        return list(wrong)
    counted = Counter(_FIGURES.sub("{…}", _CELL.sub(r"\1", sentence)) for sentence in wrong)
    return [f"{sentence} ({count} times)" for sentence, count in counted.most_common(2 * MOST_SHOWN)]


def _outcome_table(findings: Findings, faults: Sequence[str]) -> Table:
    ways = [(wire, mode) for wire in WIRES for mode in MODES]
    return Table(
        ("fault", *(f"{wire}, {mode}" for wire, mode in ways), "attempts", "ms past the deadline"),
        tuple(
            (
                fault,
                *(findings.outcomes(fault, wire, mode) for wire, mode in ways),
                findings.attempts(fault),
                f"{findings.lateness(fault):.0f}",
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
        ("books of", "calls", *BOOKS, f"US dollars {SIMULATED_MARK}", "equal where usage arrived"),
        tuple(rows),
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
