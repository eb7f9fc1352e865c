"""Command ``endless``: measures the service's memory and its other answers while a provider never ends.

For each kind of endless answer four requests are under way: over both wire formats, in chunks and until the
connection closes. Each is made again when it ends. Meanwhile strategy ``none`` is asked all the time. Two
limits
hold for each kind: the service's resident memory above idle, and by how much the median time of ``none`` is
above the time without such requests. The first line of the page has good answers, for comparison.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from contextlib import ExitStack

from tqdm import tqdm

from benchmarks.errors import BenchmarkError
from benchmarks.lab.options import add_bundle_argument, bundle_of, positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.side_effects import MEGABYTE
from benchmarks.lab.stats import percentile
from benchmarks.lvlm.endless.provider import FRAMINGS, GOOD, KINDS
from benchmarks.lvlm.endless.trial import (
    MODES,
    MOST_MEGABYTES,
    MOST_MS,
    UNDER_WAY,
    WIRES,
    KindResult,
    Trial,
)
from models import machine
from models.printed_table import Table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_bundle_argument(parser)
    parser.add_argument("--seconds", type=positive, default=30, help="for each kind (default 30)")
    parser.add_argument("--kinds", help=f"comma-separated (default all): {','.join(KINDS)}")
    parser.add_argument("--modes", default=",".join(MODES), help="how to ask (default %(default)s)")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code, 1 if a limit is broken.

    Raises:
        BenchmarkError: a server does not start, a kind is not known, or memory cannot be read.
    """
    kinds = arguments.kinds.split(",") if arguments.kinds else list(KINDS)
    modes = arguments.modes.split(",")
    for name, known in (*((kind, KINDS) for kind in kinds), *((mode, MODES) for mode in modes)):
        # Checked before any server is started.
        if name not in known:
            raise BenchmarkError(f"there is no {name!r}; known are {', '.join(known)}")
    found: dict[tuple[str, str], KindResult] = {}
    catalogue = bundle_of(arguments).catalogue
    # Kinds that were named are tried in each mode that was named.
    todo = {mode: [k for k in kinds if arguments.kinds or k in MODES[mode]] for mode in modes}
    with tqdm(total=len(todo) + sum(map(len, todo.values())), unit="kind", disable=None) as bar:
        for mode, chosen in todo.items():
            left = [GOOD, *chosen]
            while left:  # a service that broke a limit is replaced, so that the next kind starts afresh
                with ExitStack() as stack:
                    trial = Trial(stack, arguments.bundle, mode, catalogue)
                    results = asyncio.run(trial.run(left, arguments.seconds, bar.update))
                found |= {(kind, mode): result for kind, result in results.items()}
                # The trial stops after the first kind that breaks a limit.
                left = left[len(results) :]
    page = _page(found, arguments)
    publish(page, arguments.markdown)
    return int(any(result.problems for result in found.values()))


def _page(found: Mapping[tuple[str, str], KindResult], arguments: argparse.Namespace) -> str:
    sentences = [
        f"- {kind}, {mode}: {'; '.join(result.problems)}\n"
        for (kind, mode), result in found.items()
        if result.problems
    ]
    memory = max(result.memory for result in found.values()) / MEGABYTE
    slower = max(result.slower for result in found.values())
    return "\n".join(
        (
            "## Providers that never end\n",
            machine.describe(machine.facts())
            + f"- {arguments.seconds} s for each kind, {len(UNDER_WAY)} requests under way "
            + f"({' and '.join(WIRES)} × {' and '.join(FRAMINGS)}), each made again when it ends; service, "
            + "provider (niced) and clients share the cores\n"
            + f"- command: `{arguments.command_line}`\n",
            _table(found).markdown(),
            "MB are 10^6 bytes: sent by the provider, before the client inflates it; above idle is resident "
            "memory at the peak, idle is a service that has called no provider yet. Milliseconds are of "
            "`none`, asked all the time: quiet, before; beside, meanwhile. Stream and plain: how the service "
            "asks.\n",
            f"- most MB above idle at most {MOST_MEGABYTES:g}: {memory:.0f}\n"
            f"- most milliseconds that the median of none grows at most {MOST_MS:g}: {slower:.1f}\n"
            f"- kinds that are not as they must be: {len(sentences)}\n" + "".join(sentences),
        )
    )


def _table(found: Mapping[tuple[str, str], KindResult]) -> Table:
    return Table(
        (
            "kind, mode", "requests", "MB sent", "MB above idle",
            "none p50 ms: quiet", "beside", "p99", "slowest", "s past the deadline",
        ),
        tuple(
            (
                f"{kind}, {mode}",
                ", ".join(f"{outcome} {count}" for outcome, count in result.outcomes.items()),
                f"{result.sent / MEGABYTE:.0f}",
                f"{result.memory / MEGABYTE:.0f}",
                f"{result.quiet.median:.1f}",
                f"{result.beside.median:.1f}",
                f"{percentile(result.beside.answered, 99):.0f}",
                f"{max(result.beside.answered):.0f}",
                f"{result.slowest:.2f}",
            )
            for (kind, mode), result in found.items()
        ),
    )  # fmt: skip
