"""Command ``crowd``: lets many clients ask a slow LVLM at once, and measures time, memory and calls.

A crowd is a number of clients that ask at the same moment; pages and options call it a scene. In each crowd
the LVLM must have ordered every client's answer, with one call per client (or one call for all, if all ask
the same). The command starts its own simulator and service, with one worker or, for one crowd, two.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from benchmarks.lab.options import add_bundle_argument, bundle_of, positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.rounds import Limit, Ratio
from benchmarks.lab.stats import median
from benchmarks.lvlm.crowd_load import HELD_TOKEN, Crowd, CrowdResult, bodies_of, measure
from models import machine
from models.printed_table import NO_VALUE, Table

LATE = Limit("slowest answer by the simulator's latency", most=1.5)
MEMORY = Limit("MB above idle", most=300)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_bundle_argument(parser)
    parser.add_argument("--clients", type=positive, default=200, help="that are timed (default 200)")
    parser.add_argument(
        "--in-flight", type=positive, default=1000, help="for memory and for equal requests (default 1000)"
    )
    parser.add_argument("--rounds", type=positive, default=3, help="of every scene (default 3)")
    parser.add_argument("--redis-url", help="a running Redis, for the scene with two workers")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code, 1 when a check failed.

    Raises:
        BenchmarkError: a server does not start, or an answer is no 200.
    """
    crowds = _crowds(arguments)
    items = [item.item_id for item in bundle_of(arguments).catalogue.items]
    found: dict[str, list[CrowdResult]] = {crowd.name: [] for crowd in crowds}
    with tqdm(total=len(crowds) * arguments.rounds, unit="crowd", disable=None) as bar:
        for number in range(arguments.rounds):
            for crowd in crowds:
                bodies = bodies_of(items, crowd, seed=number)
                found[crowd.name].append(measure(arguments.bundle, crowd, bodies))
                bar.update()
    return report(crowds, found, arguments)


def report(
    crowds: Sequence[Crowd], found: Mapping[str, Sequence[CrowdResult]], arguments: argparse.Namespace
) -> int:
    """Prints the page; returns the exit code, 1 when a check failed."""
    page = _page(crowds, found, arguments)
    publish(page, arguments.markdown)
    return int(any(not verdict.met for crowd in crowds for verdict in verdicts(crowd, found[crowd.name])))


def _crowds(arguments: argparse.Namespace) -> list[Crowd]:
    many = arguments.in_flight
    # The default concurrency limit would let most calls wait, and their memory would not be measured.
    unlimited = {"MSR_LVLM_CONCURRENCY": str(many)}
    crowds = [
        Crowd(f"{arguments.clients} clients at once", arguments.clients, LATE),
        Crowd(
            f"{many} calls in flight",
            many,
            MEMORY,
            together=True,
            settings=unlimited,
            first_token=HELD_TOKEN,
        ),
        Crowd(f"{many} equal requests", many, same=True),
    ]
    if arguments.redis_url:
        shared = {"MSR_WORKERS": "2", "MSR_REDIS_URL": arguments.redis_url}
        name = f"{many} equal requests, 2 workers, Redis"
        crowds.append(Crowd(name, many, same=True, settings=shared))
    return crowds


@dataclass(frozen=True)
class CrowdCheck:
    """The result of one check of a crowd.

    Attributes:
        sentence: sentence about what was checked, and whether it was met.
        met: whether it was met.
    """

    sentence: str
    met: bool


def verdicts(crowd: Crowd, rounds: Sequence[CrowdResult]) -> list[CrowdCheck]:
    """Checks a crowd: the counts of every round, and the median over rounds against the crowd's limit."""
    said = [
        _always("answers ordered by the LVLM", crowd.clients, [seen.ordered for seen in rounds]),
        _always("provider calls", crowd.calls, [seen.calls for seen in rounds]),
    ]
    if crowd.together:
        said.append(_always("calls in flight at one moment", crowd.clients, [seen.peak for seen in rounds]))
    if crowd.limit:
        # There are only two limits, of which one is on the lateness.
        held = _lateness(rounds) if crowd.limit is LATE else _memory(rounds)
        said.append(CrowdCheck(crowd.limit.verdict(held), not crowd.limit.broken_by(held)))
    return said


def _always(what: str, wanted: int, seen: Sequence[int]) -> CrowdCheck:
    low, high = min(seen), max(seen)
    # One answer too many is as wrong as one too few.
    met = low == wanted == high
    return CrowdCheck(f"{what}, {wanted} in every round: {low}–{high}, {'met' if met else 'not met'}", met)


def _lateness(rounds: Sequence[CrowdResult]) -> Ratio:
    return Ratio.of([seen.slowest for seen in rounds], [seen.latency for seen in rounds])


def _memory(rounds: Sequence[CrowdResult]) -> Ratio | None:
    return _spread([seen.megabytes for seen in rounds])


def _page(
    crowds: Sequence[Crowd], found: Mapping[str, Sequence[CrowdResult]], arguments: argparse.Namespace
) -> str:
    rows = []
    for crowd in crowds:
        rounds = found[crowd.name]
        late, memory = _lateness(rounds), _memory(rounds)
        rows.append(
            (
                crowd.name,
                str(min(seen.ordered for seen in rounds)),
                f"{median([seen.latency for seen in rounds]):.2f}",
                f"{median([seen.slowest for seen in rounds]):.2f}",
                f"{late} ({late.spread})",
                NO_VALUE if memory is None else f"{memory.median:.0f} ({memory.low:.0f}–{memory.high:.0f})",
                _figures([seen.calls for seen in rounds]),
                _figures([seen.peak for seen in rounds]),
            )
        )
    columns = (
        "scene",
        "ordered by the LVLM",
        "simulator s",
        "slowest answer s",
        "slowest / simulator",
        "MB above idle",
        "provider calls",
        "in flight at one moment",
    )
    said = [(crowd, verdict) for crowd in crowds for verdict in verdicts(crowd, found[crowd.name])]
    return "\n".join(
        (
            "## Crowds on an LVLM that takes five seconds\n",
            machine.describe(machine.facts())
            + f"- {arguments.rounds} rounds of every scene; service, simulator and clients share the cores\n"
            + f"- command: `{arguments.command_line}`\n",
            Table(columns, tuple(rows)).markdown(),
            "Medians over rounds, extremes in brackets; MB are 10^6 bytes. Every client has a connection of "
            "its own; all send at the same moment and get 200. Where memory is measured, the LVLM takes "
            f"{HELD_TOKEN:g} s to begin, so that the last call is in flight before the first one ends.\n",
            "\n".join(f"- {crowd.name}: {verdict.sentence}" for crowd, verdict in said) + "\n",
        )
    )


def _figures(counts: Sequence[int]) -> str:
    return f"{median(counts):g} ({min(counts)}–{max(counts)})"


def _spread(values: Sequence[float | None]) -> Ratio | None:
    known = [value for value in values if value is not None]
    # A round without memory makes the whole unknown: a median of the others would look complete.
    return Ratio(median(known), min(known), max(known)) if len(known) == len(values) else None
