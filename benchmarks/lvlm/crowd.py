"""``crowd``: many clients at once on a slow LVLM: who is answered when, with what memory and how many calls.

Whatever a scene is about, the LVLM must have ordered every client's answer, with a call for each (or with one
for all, where all ask the same).

Starts its own simulator and service. One worker unless the scene says two.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from benchmarks.lab import machine
from benchmarks.lab.options import add_bundle_argument, bundle_of, positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.rounds import Limit, Ratio
from benchmarks.lab.stats import median
from benchmarks.lab.tables import UNKNOWN, Table
from benchmarks.lvlm.crowd_scenes import HELD_TOKEN, Scene, Seen, bodies_of, play

LATE = Limit("slowest answer by the simulator's latency", most=1.5)
MEMORY = Limit("MB above idle", most=300)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_bundle_argument(parser)
    parser.add_argument("--clients", type=positive, default=200, help="that are timed (default 200)")
    parser.add_argument(
        "--in-flight", type=positive, default=1000, help="for memory and for equal requests (default 1000)"
    )
    parser.add_argument("--rounds", type=positive, default=3, help="of every scene (default 3)")
    parser.add_argument("--redis-url", help="a running Redis, for the scene with two workers")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; returns the exit code, 1 when a scene was not as it must be.

    Raises:
        BenchmarkError: a server does not start, or an answer is no 200.
    """
    scenes = _scenes(arguments)
    items = [item.item_id for item in bundle_of(arguments).catalogue.items]
    found: dict[str, list[Seen]] = {scene.name: [] for scene in scenes}
    with tqdm(total=len(scenes) * arguments.rounds, unit="crowd", disable=None) as bar:
        for number in range(arguments.rounds):
            for scene in scenes:
                bodies = bodies_of(items, scene, seed=number)
                found[scene.name].append(play(arguments.bundle, scene, bodies))
                bar.update()
    return report(scenes, found, arguments)


def report(
    scenes: Sequence[Scene], found: Mapping[str, Sequence[Seen]], arguments: argparse.Namespace
) -> int:
    """Print what was found; returns the exit code."""
    page = _page(scenes, found, arguments)
    publish(page, arguments.markdown)
    return int(any(not verdict.met for scene in scenes for verdict in verdicts(scene, found[scene.name])))


def _scenes(arguments: argparse.Namespace) -> list[Scene]:
    many = arguments.in_flight
    unlimited = {"MSR_LVLM_CONCURRENCY": str(many)}
    scenes = [
        Scene(f"{arguments.clients} clients at once", arguments.clients, LATE),
        Scene(
            f"{many} calls in flight",
            many,
            MEMORY,
            together=True,
            settings=unlimited,
            first_token=HELD_TOKEN,
        ),
        Scene(f"{many} equal requests", many, same=True),
    ]
    if arguments.redis_url:
        shared = {"MSR_WORKERS": "2", "MSR_REDIS_URL": arguments.redis_url}
        name = f"{many} equal requests, 2 workers, Redis"
        scenes.append(Scene(name, many, same=True, settings=shared))
    return scenes


@dataclass(frozen=True)
class Verdict:
    """A sentence that says what a scene was held to and whether it met it, and the same for the exit code."""

    sentence: str
    met: bool


def verdicts(scene: Scene, rounds: Sequence[Seen]) -> list[Verdict]:
    """What every round was held to, and what the median over rounds was."""
    said = [
        _always("answers ordered by the LVLM", scene.clients, [seen.ordered for seen in rounds]),
        _always("provider calls", scene.calls, [seen.calls for seen in rounds]),
    ]
    if scene.together:
        said.append(_always("calls in flight at one moment", scene.clients, [seen.peak for seen in rounds]))
    if scene.limit:
        held = _lateness(rounds) if scene.limit is LATE else _memory(rounds)
        said.append(Verdict(scene.limit.verdict(held), not scene.limit.broken_by(held)))
    return said


def _always(what: str, wanted: int, seen: Sequence[int]) -> Verdict:
    low, high = min(seen), max(seen)
    met = low == wanted == high
    return Verdict(f"{what}, {wanted} in every round: {low}–{high}, {'met' if met else 'not met'}", met)


def _lateness(rounds: Sequence[Seen]) -> Ratio:
    return Ratio.of([seen.slowest for seen in rounds], [seen.latency for seen in rounds])


def _memory(rounds: Sequence[Seen]) -> Ratio | None:
    return _spread([seen.megabytes for seen in rounds])


def _page(scenes: Sequence[Scene], found: Mapping[str, Sequence[Seen]], arguments: argparse.Namespace) -> str:
    rows = []
    for scene in scenes:
        rounds = found[scene.name]
        late, memory = _lateness(rounds), _memory(rounds)
        rows.append(
            (
                scene.name,
                str(min(seen.ordered for seen in rounds)),
                f"{median([seen.latency for seen in rounds]):.2f}",
                f"{median([seen.slowest for seen in rounds]):.2f}",
                f"{late} ({late.spread})",
                UNKNOWN if memory is None else f"{memory.median:.0f} ({memory.low:.0f}–{memory.high:.0f})",
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
    said = [(scene, verdict) for scene in scenes for verdict in verdicts(scene, found[scene.name])]
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
            "\n".join(f"- {scene.name}: {verdict.sentence}" for scene, verdict in said) + "\n",
        )
    )


def _figures(counts: Sequence[int]) -> str:
    return f"{median(counts):g} ({min(counts)}–{max(counts)})"


def _spread(values: Sequence[float | None]) -> Ratio | None:
    known = [value for value in values if value is not None]
    return Ratio(median(known), min(known), max(known)) if len(known) == len(values) else None
