"""Command ``http``: measures the service's HTTP beside a bare app that runs the same model, as ratios."""

from __future__ import annotations

import argparse
import json
import os
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.errors import BenchmarkError
from benchmarks.lab.cases import Cohort
from benchmarks.lab.load_generator import LoadResult, encode_post, generate
from benchmarks.lab.options import add_bundle_argument, bundle_of, positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.rounds import Limit, Ratio, interleaved
from benchmarks.lab.servers import HOST, free_port, own_core, running, running_service
from benchmarks.lab.stats import median
from models import machine
from models.printed_table import NO_VALUE, Table
from service.catalogue.bundle import Bundle

OURS, BARE = "service", "bare app"
PATHS = {OURS: "/recommend?strategy=none", BARE: "/recommend"}
K = 10
"""Number of items per answer, and in a history."""
WARM_UP = 0.25
"""Length of the warm-up, which is not counted, as a share of the seconds of load."""
LIMIT_CONNECTIONS = 32
"""Number of connections at which the limits hold; results for other numbers are only shown."""
THROUGHPUT, P99 = Limit("requests/s ratio", least=0.6), Limit("p99 ratio", most=1.5)


@dataclass(frozen=True)
class ServerComparison:
    """All rounds at one number of connections.

    Attributes:
        connections: number of connections, each with one request under way.
        rounds: results of each server, by its name, round by round.
    """

    connections: int
    rounds: dict[str, list[LoadResult]]

    @property
    def throughput_ratio(self) -> Ratio:
        """Requests per second, ours by the bare app's."""
        # Both lists have the rounds in the same order.
        ours, bare = ([load.per_second for load in self.rounds[name]] for name in (OURS, BARE))
        return Ratio.of(ours, bare)

    @property
    def p99_ratio(self) -> Ratio:
        """99th percentile of the latency, ours by the bare app's."""
        return Ratio.of(*([load.p99 for load in self.rounds[name]] for name in (OURS, BARE)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_bundle_argument(parser)
    parser.add_argument("--backbone", help="by its name in the bundle (default: its first raw one)")
    parser.add_argument(
        "--connections", type=_numbers, default=(1, 32), help="comma-separated (default 1,32)"
    )
    parser.add_argument("--rounds", type=positive, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of load per server and round (default 4)")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code.

    Raises:
        BenchmarkError: a server does not start, or the two do not recommend the same items.
    """
    bundle = bundle_of(arguments)
    backbone = _backbone(bundle, arguments.backbone)
    # Histories of real test users, the same for both servers.
    bodies = [{"history": list(case.history[-K:]), "k": K} for case in Cohort(bundle.catalogue, 200, seed=1)]
    comparisons = []
    with own_core() as cores, _servers(arguments.bundle, backbone, cores) as ports:
        _check_same_items(ports, bodies[:20])
        ways = {name: [_request(port, name, body) for body in bodies] for name, port in ports.items()}
        total = len(arguments.connections) * arguments.rounds * len(ways)
        with tqdm(total=total, unit="stretch", disable=None) as bar:
            for connections in arguments.connections:
                loads = {
                    name: partial(_load, ports[name], requests, connections, arguments.seconds, bar)
                    for name, requests in ways.items()
                }
                comparisons.append(ServerComparison(connections, interleaved(loads, arguments.rounds)))
    page = _page(comparisons, arguments, bundle, backbone, pinned=cores is not None)
    publish(page, arguments.markdown)
    return 0


def comparison_table(comparisons: Sequence[ServerComparison]) -> Table:
    """Tabulates medians over rounds and the two ratios with their spread."""
    columns = (
        "server",
        "connections",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "errors",
        "requests/s ratio",
        "min–max",
        "p99 ratio",
        "min–max",
    )
    rows = []
    for found in comparisons:
        for name in (BARE, OURS):
            loads = found.rounds[name]
            ratios = ("1", NO_VALUE, "1", NO_VALUE)
            if name == OURS:
                throughput, p99 = found.throughput_ratio, found.p99_ratio
                ratios = (str(throughput), throughput.spread, str(p99), p99.spread)
            rows.append(
                (
                    name,
                    str(found.connections),
                    f"{median([load.per_second for load in loads]):.0f}",
                    f"{1000 * median([load.p50 for load in loads]):.2f}",
                    f"{1000 * median([load.p99 for load in loads]):.2f}",
                    str(sum(load.errors for load in loads)),
                    *ratios,
                )
            )
    return Table(columns, tuple(rows))


def verdicts(comparisons: Sequence[ServerComparison]) -> str:
    """Returns a sentence on whether the service met its limits."""
    found = next((found for found in comparisons if found.connections == LIMIT_CONNECTIONS), None)
    said = (
        THROUGHPUT.verdict(found.throughput_ratio if found else None),
        P99.verdict(found.p99_ratio if found else None),
    )
    return f"Held to at {LIMIT_CONNECTIONS} connections, in this run: {'; '.join(said)}."


@contextmanager
def _servers(folder: Path, backbone: str, cores: set[int] | None) -> Iterator[dict[str, int]]:
    """Runs both servers, one worker each, on the same core; the one that is not under load is idle."""
    # Strategy none asks no LVLM, so any provider without a key will do.
    settings = {"MSR_BACKBONE": backbone, "MSR_PROVIDER": "simulator", "MSR_SIMULATOR_URL": ""}
    port = free_port()
    bare = ["--bundle", str(folder), "--backbone", backbone, "--port", str(port)]
    with (
        running_service(folder, settings, cores) as service,
        running("benchmarks.speed.bare_app", bare, {}, port, cores),
    ):
        yield {OURS: service.port, BARE: port}


def _load(
    port: int, requests: Sequence[bytes], connections: int, seconds: float, bar: tqdm[Any]
) -> LoadResult:
    generate(HOST, port, requests, connections, WARM_UP * seconds)
    # Both runs open connections of their own.
    found = generate(HOST, port, requests, connections, seconds)
    bar.update()
    return found


def _request(port: int, name: str, body: dict[str, Any]) -> bytes:
    return encode_post(f"{HOST}:{port}", PATHS[name], json.dumps(body).encode())


def _check_same_items(ports: dict[str, int], bodies: Sequence[dict[str, Any]]) -> None:
    """Checks that both recommend the same; the service includes seen items, as the bare app does."""
    for body in bodies:
        ours = _ask(ports[OURS], PATHS[OURS], {**body, "include_seen": True})
        bare = _ask(ports[BARE], PATHS[BARE], body)
        if ours != bare:
            raise BenchmarkError(
                f"the servers recommend different items ({ours} and {bare}): nothing to compare"
            )


def _ask(port: int, path: str, body: dict[str, Any]) -> list[str]:
    request = urllib.request.Request(
        f"http://{HOST}:{port}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return [item["item_id"] for item in json.load(response)["items"]]
    except OSError as error:
        raise BenchmarkError(f"a server does not answer: {error}") from error


def _backbone(bundle: Bundle, name: str | None) -> str:
    # Strategy none answers from a raw backbone.
    names = [
        n
        for n, backbone in bundle.backbones.items()
        if name in (None, n) and backbone.manifest.text_view == "raw"
    ]
    if not names:
        raise BenchmarkError(
            f"the bundle has no raw backbone {name or ''}: it has {', '.join(bundle.backbones)}"
        )
    return names[0]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(positive(part) for part in text.split(","))


def _page(
    comparisons: Sequence[ServerComparison],
    arguments: argparse.Namespace,
    bundle: Bundle,
    backbone: str,
    pinned: bool,
) -> str:
    manifest = bundle.backbones[backbone].manifest
    pinning = (
        "servers pinned to one core, load generator to another"
        if pinned
        else f"nothing pinned ({os.cpu_count()} core), so server and load generator disturb each other"
    )
    return "\n".join(
        (
            f"## HTTP: {bundle.catalogue.manifest.dataset}, strategy none\n",
            machine.describe(machine.facts())
            + f"- model: {backbone}, {manifest.family}, d {manifest.dimension}, L {manifest.length}, "
            + f"{len(bundle.catalogue.items)} items\n"
            + f"- {arguments.rounds} interleaved rounds of {arguments.seconds:g} s, one worker each\n"
            + f"- {pinning}\n"
            + f"- command: `{arguments.command_line}`\n",
            comparison_table(comparisons).markdown(),
            "Medians over rounds. A ratio is taken within each round, shown as the median and the extremes "
            "over rounds, so it need not be the ratio of the medians. The bare app validates, excludes, "
            "measures and logs nothing.\n",
            verdicts(comparisons) + "\n",
        )
    )
