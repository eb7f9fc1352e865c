"""Command ``faults``: tries every fault of the simulator, for every strategy, wire format and mode.

With every fault the answer must be a 200 with ``k`` different items of the pool, in time, with the right
outcome. Afterwards the service's metrics must agree with the simulator's ledger. What is right for each fault
is in ``cells`` and ``checks``.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.errors import BenchmarkError
from benchmarks.lab.cells import SIMULATED_MARK
from benchmarks.lab.options import add_bundle_argument, bundle_of, positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.rounds import Limit, Ratio
from benchmarks.lvlm.faults.cells import (
    DEADLINE,
    EXPECTED,
    HANGING,
    HANGING_DEADLINE,
    MODES,
    POOL_SIZE,
    WIRES,
    FaultCell,
    K,
)
from benchmarks.lvlm.faults.findings import Findings
from benchmarks.lvlm.faults.ledgers import NO_CALLS, TOKEN_KINDS, CallTotals, LedgerComparison
from benchmarks.lvlm.faults.matrix import Matrix, Observed
from models import machine
from models.printed_table import Table

STRATEGIES = ("s1", "s3", "s4", "s5")
MOST_SHOWN = 40
"""Number of sentences about single cells that the page shows at most; more are counted by fault instead."""
_DICTS = re.compile(r"\{.*?\}")
_CELL = re.compile(r"^\S+@(\w+)-s\d-(?:stream|plain)")
LATENESS_LIMIT = Limit("worst median lateness in ms", most=50)
TOTAL_LIMIT = Limit("our total by the simulator's, with estimates", least=0.98, most=1.02)
ESTIMATE_LIMIT = Limit("ours by the simulator's, of calls whose usage never arrived", least=0.98, most=1.02)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_bundle_argument(parser)
    parser.add_argument("--rounds", type=positive, default=3, help="of every cell (default 3)")
    parser.add_argument("--at-once", type=positive, default=8, help="requests under way (default 8)")
    parser.add_argument("--faults", help=f"comma-separated (default all): {','.join(EXPECTED)}")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the matrix and prints; returns the exit code, 1 if anything is not as it must be.

    Raises:
        BenchmarkError: a server does not start, a fault is not known, or the bundle has too few captions.
    """
    faults = arguments.faults.split(",") if arguments.faults else list(EXPECTED)
    # Before any server is started.
    unknown = [name for name in faults if name not in EXPECTED]
    if unknown:
        raise BenchmarkError(f"no fault {unknown[0]!r}; known are {', '.join(EXPECTED)}")
    cells = [FaultCell(f, s, w, m) for f in faults for s in STRATEGIES for w in WIRES for m in MODES]
    with Matrix.running(cells, arguments.bundle, bundle_of(arguments).catalogue) as matrix:
        observed = asyncio.run(matrix.ask(arguments.rounds, arguments.at_once))
    page, good = _page(Findings(observed), observed, faults, arguments)
    publish(page, arguments.markdown)
    return 0 if good else 1


def _page(
    findings: Findings, observed: Observed, faults: Sequence[str], arguments: argparse.Namespace
) -> tuple[str, bool]:
    limits = limit_checks(max(map(findings.lateness, faults)), findings.comparisons)
    cells, rounds = len(observed.cells), observed.rounds
    said = [
        f"- every answer is a 200 at once with {K} different items of its pool, with the right outcome; "
        "half of them are watched, and nothing that was told as the LVLM's is taken back; attempts, "
        "retries, refused fields, repairs, fallbacks and books are counted right: "
        + ("yes" if not findings.problems else f"NO, {len(findings.problems)} things are wrong"),
        *(f"- {what}: {limit.verdict(ratio)}" for what, limit, ratio in limits),
        *(f"- {sentence}" for sentence in shown(findings.problems)),
    ]
    page = "\n".join(
        (
            "## What the LVLM stage makes of everything that can go wrong\n",
            machine.describe(machine.facts())
            + f"- {cells} cells (fault × {', '.join(STRATEGIES)} × wire × mode), "
            + f"{rounds} rounds, {cells * rounds} answers and the healthy ones "
            + f"once more, {arguments.at_once} at a time\n"
            + f"- deadline {1000 * DEADLINE:.0f} ms, {1000 * HANGING_DEADLINE:.0f} ms for "
            + f"{', '.join(HANGING)}; k = {K} of {POOL_SIZE} candidates\n"
            + f"- command: `{arguments.command_line}`\n",
            _outcome_table(findings, faults).markdown(),
            "Attempts per answer: the least and the largest mean of a cell (Anthropic's Retry-After is in "
            "whole seconds, of which the deadline holds one; a breaker opens after a refused key, and after "
            "ten attempts of which half fail). Milliseconds past the deadline as the client sees them: the "
            "worst cell's median over rounds; negative is early.\n",
            _ledger_table(findings.comparisons).markdown(),
            "Tokens and US dollars of all attempts. Of calls that were cut the usage never arrives: those "
            "are estimated, and marked so; the last two lines are the cells that have such calls.\n",
            "\n".join(said) + "\n",
        )
    )
    return page, not findings.problems and not any(limit.broken_by(ratio) for _, limit, ratio in limits)


def shown(problems: Sequence[str]) -> list[str]:
    """Returns the problems cell by cell, or above ``MOST_SHOWN`` of them their counts by fault."""
    if len(problems) <= MOST_SHOWN:
        return list(problems)
    # The dicts in a sentence differ from cell to cell; without them equal sentences can be counted.
    counted = Counter(_DICTS.sub("{…}", _CELL.sub(r"\1", sentence)) for sentence in problems)
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


def _ledger_table(comparisons: Mapping[tuple[str, str], LedgerComparison]) -> Table:
    rows = []
    for (wire, mode), each in comparisons.items():
        rows.append((f"service: {wire}, {mode}", *_figures(each.ours), "yes" if each.equal else "NO"))
        rows.append((f"simulator: {wire}, {mode}", *_figures(each.theirs), ""))
    ours, theirs = _without_usage(comparisons.values())
    rows.append(("service: where usage was cut", *_figures(ours), ""))
    rows.append(("simulator: where usage was cut", *_figures(theirs), ""))
    return Table(
        ("books of", "calls", *TOKEN_KINDS, f"US dollars {SIMULATED_MARK}", "equal where usage arrived"),
        tuple(rows),
    )


def limit_checks(
    worst: float, comparisons: Mapping[tuple[str, str], LedgerComparison]
) -> list[tuple[str, Limit, Ratio | None]]:
    """Returns what is measured, its limit and the ratio to the simulator's figure, for each limit.

    Args:
        worst: milliseconds past the deadline of the latest cell.
        comparisons: totals of the service and of the simulator, by wire format and mode.
    """
    ours = sum((each.ours for each in comparisons.values()), NO_CALLS)
    theirs = sum((each.theirs for each in comparisons.values()), NO_CALLS)
    # Checked separately: among all tokens an error of the estimates would hardly show.
    ours_cut, theirs_cut = _without_usage(comparisons.values())
    return [
        # One figure and no rounds: median and extremes are the same.
        ("answers", LATENESS_LIMIT, Ratio(worst, worst, worst)),
        *((kind, TOTAL_LIMIT, _share(ours.tokens[kind], theirs.tokens[kind])) for kind in TOKEN_KINDS),
        ("US dollars", TOTAL_LIMIT, _share(ours.dollars, theirs.dollars)),
        ("input and output", ESTIMATE_LIMIT, _share(_tokens(ours_cut), _tokens(theirs_cut))),
        ("US dollars", ESTIMATE_LIMIT, _share(ours_cut.dollars, theirs_cut.dollars)),
    ]


def _without_usage(comparisons: Iterable[LedgerComparison]) -> tuple[CallTotals, CallTotals]:
    """Adds up the cells in which some usage never arrived: the service's totals and the simulator's."""
    comparisons = list(comparisons)
    return sum((each.cut[0] for each in comparisons), NO_CALLS), sum(
        (each.cut[1] for each in comparisons), NO_CALLS
    )


def _tokens(totals: CallTotals) -> float:
    return totals.tokens["input"] + totals.tokens["output"]


def _share(ours: float, theirs: float) -> Ratio | None:
    return Ratio(ours / theirs, ours / theirs, ours / theirs) if theirs else None


def _figures(totals: CallTotals) -> tuple[str, ...]:
    return (
        f"{totals.calls:.0f}",
        *(f"{totals.tokens[kind]:.0f}" for kind in TOKEN_KINDS),
        f"{totals.dollars:.6f}",
    )
