"""Command ``compare``: measures whether this work tree is slower than another commit.

Each runs its own code in this environment. A pair is one short run of each, one after the other, in an order
that is reversed from pair to pair. A ratio is computed within a pair, since what slows the machine for a
while then slows both.
"""

from __future__ import annotations

import argparse
import math
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from benchmarks.errors import BenchmarkError
from benchmarks.lab.options import positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.stats import Interval, median, median_interval
from benchmarks.speed.checkout import checked_out, page_of
from benchmarks.speed.short_runs import SHORT_RUNS, Figure, read
from models import machine
from models.printed_table import Table

SLOWER, FASTER = 0.97, 1.03
"""Ratios of speed below and above which the whole interval must lie for the verdicts slower and faster."""
FEWEST = 6
"""Number of pairs at least: with fewer there is no 95 % interval of a median."""


@dataclass(frozen=True)
class Speed:
    """One figure of both commits, pair by pair.

    Attributes:
        figure: figure that was measured.
        base: values of the other commit, one for each pair.
        now: values of this work tree, one for each pair.
    """

    figure: Figure
    base: Sequence[float]
    now: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """The speed of this work tree by the other commit's, pair by pair; below 1 it is slower."""
        pairs = zip(self.now, self.base, strict=True)
        # Inverted for times, so that above 1 is always better.
        return [now / base if self.figure.more_is_better else base / now for now, base in pairs]

    @property
    def interval(self) -> Interval:
        """Interval of the ratio's median, with a confidence of at least 95 %."""
        # In logarithms, where half and twice as fast are equally far from 1.
        low, high = median_interval([math.log(ratio) for ratio in self.ratios])
        return math.exp(low), math.exp(high)

    @property
    def verdict(self) -> str:
        """Verdict on this work tree: ``slower``, ``faster`` or ``not shown to be slower``."""
        low, high = self.interval
        return "slower" if high < SLOWER else "faster" if low > FASTER else "not shown to be slower"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--base", required=True, help="the commit to compare with")
    parser.add_argument("--pairs", type=positive, default=15, help="runs of each (default 15)")
    parser.add_argument(
        "--benchmarks", default=",".join(SHORT_RUNS), help=f"comma-separated (default {','.join(SHORT_RUNS)})"
    )
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code, 1 when anything is slower.

    Raises:
        BenchmarkError: the repository has no such commit, or a run fails.
    """
    names = arguments.benchmarks.split(",")
    if unknown := [name for name in names if name not in SHORT_RUNS]:
        raise BenchmarkError(f"{unknown[0]!r} is not compared: choose from {', '.join(SHORT_RUNS)}")
    if arguments.pairs < FEWEST:
        raise BenchmarkError(f"--pairs is {arguments.pairs}: an interval needs at least {FEWEST}")
    began = time.monotonic()
    with _stopped_by_sigterm(), checked_out(machine.ROOT, arguments.base) as base:
        speeds = _measure({"base": base, "now": machine.ROOT}, names, arguments.pairs)
    page = _page(speeds, arguments, base.name, time.monotonic() - began)
    publish(page, arguments.markdown)
    # "Not shown to be slower" does not prove equal speed; the interval shows what is excluded.
    return int(any(speed.verdict == "slower" for speed in speeds))


def _measure(trees: Mapping[str, Path], names: Sequence[str], pairs: int) -> list[Speed]:
    figures = [figure for name in names for figure in SHORT_RUNS[name].figures]
    found: dict[tuple[str, str], list[float]] = {
        (side, figure.name): [] for side in trees for figure in figures
    }
    with tqdm(total=pairs * len(names) * len(trees), unit="run", disable=None) as bar:
        # The outer loop is over pairs, so that each benchmark is spread over the whole time.
        for number in range(pairs):
            for name in names:
                for side in list(trees)[:: 1 if number % 2 == 0 else -1]:  # each time in the other order
                    for figure, value in _figures(side, trees[side], name):
                        found[side, figure].append(value)
                    bar.update()
    return [Speed(figure, found["base", figure.name], found["now", figure.name]) for figure in figures]


def _figures(side: str, tree: Path, name: str) -> list[tuple[str, float]]:
    """Reads the figures of one short run, by name."""
    try:
        page = page_of(tree, name, SHORT_RUNS[name].options)
        return [(figure.name, read(page, figure)) for figure in SHORT_RUNS[name].figures]
    except BenchmarkError as error:
        raise BenchmarkError(f"{side}: {error}") from error


def speed_table(speeds: Sequence[Speed]) -> Table:
    """Tabulates medians of both, the ratio with its interval, and the verdict."""
    rows = []
    for speed in speeds:
        low, high = speed.interval
        rows.append(
            (
                speed.figure.name,
                f"{median(speed.base):g}",
                f"{median(speed.now):g}",
                f"{median(speed.ratios):.3f}",
                f"{low:.3f}–{high:.3f}",
                speed.verdict,
            )
        )
    return Table(("figure", "base", "now", "speed, now / base", "95 % interval", "now is"), tuple(rows))


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Lets SIGTERM stop the block as Ctrl-C does, so that the other commit's folder is removed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _page(speeds: Sequence[Speed], arguments: argparse.Namespace, base: str, seconds: float) -> str:
    return "\n".join(
        (
            "## This work tree beside another commit\n",
            machine.describe(machine.facts())
            + f"- base: {base}\n"
            + f"- {arguments.pairs} pairs of runs, in turns, {seconds / 60:.0f} minutes\n"
            + f"- command: `{arguments.command_line}`\n",
            speed_table(speeds).markdown(),
            "Medians over pairs. The ratio is taken within each pair and turned so that below 1 is slower; "
            "its interval is the exact one of the median (order statistics, at least 95 %). *Slower* means "
            f"that the whole interval lies below {SLOWER}.\n",
        )
    )
