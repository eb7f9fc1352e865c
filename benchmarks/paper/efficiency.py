"""Command ``efficiency``: measures seconds per user of each strategy (the paper's RQ4).

They are measured twice: by the client, and by the service's own histogram over the same requests.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.errors import BenchmarkError
from benchmarks.lab.cases import Case, Cohort, vectors_of_users
from benchmarks.lab.cells import dollars
from benchmarks.lab.options import (
    add_service_arguments,
    add_strategy_arguments,
    bundle_of,
    lvlm_options,
    positive,
    strategies,
)
from benchmarks.lab.pages import add_markdown_argument, publish, write_text
from benchmarks.lab.prometheus import REQUEST_DURATION, HistogramTotal, histogram_total
from benchmarks.lab.service_client import Reply, ServiceClient, backbone_of
from benchmarks.lab.stats import mean, percentile
from benchmarks.paper.accuracy import SIMULATED_WARNING, is_simulated, known_sum
from models import machine
from models.contracts import BackboneManifest
from models.contracts.paper import method_of, seconds_of, table2
from models.printed_table import NO_VALUE, Table
from service.catalogue.bundle import Bundle

RECOMMENDER = "SASRec"
"""Row of Table 2 that stands beside ``none``; every recommender of the table takes 0.4 to 3 ms."""
POLLS, POLL_SECONDS = 40, 0.05
"""Scrapes at most, and seconds between two, until the histogram holds the last answer, which the service
observes after it is sent; then the last scrape is taken."""


@dataclass(frozen=True)
class StrategyTimes:
    """Times, tokens and cost of one strategy, per user.

    Attributes:
        strategy: name of the strategy.
        users: number of requests, one for each user.
        failures: number of requests without an answer.
        outcomes: number of requests by outcome; ``failed`` are those without an answer.
        client_mean: mean seconds that the client waited.
        client_p50: median of the seconds that the client waited.
        client_p95: 95th percentile of the seconds that the client waited.
        histogram_mean: mean seconds that the service observed.
        histogram_count: number of observations that the service added during the measurement.
        input_tokens: mean input tokens per user.
        output_tokens: mean output tokens per user.
        cost_usd: mean US dollars per user; None where the price of the model is not known.
        models: provider/model of every LVLM that was asked, sorted.
        simulated: whether the simulator answered any of them.
    """

    strategy: str
    users: int
    failures: int
    outcomes: dict[str, int]
    client_mean: float
    client_p50: float
    client_p95: float
    histogram_mean: float
    histogram_count: int
    input_tokens: float
    output_tokens: float
    cost_usd: float | None
    models: tuple[str, ...]
    simulated: bool

    @property
    def difference(self) -> float:
        """Mean seconds that the client measured beyond those of the service."""
        return self.client_mean - self.histogram_mean

    def to_json(self) -> dict[str, Any]:
        """Returns the fields; a mean without an observation is null, since JSON has no NaN."""
        mean = None if math.isnan(self.histogram_mean) else self.histogram_mean
        return {**asdict(self), "histogram_mean": mean}

    @property
    def undisturbed(self) -> bool:
        """Whether the histogram's new observations are the requests of this measurement alone."""
        return self.histogram_count == self.users


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_service_arguments(parser)
    # Off by default: a cached answer takes milliseconds, and would be timed as one of the LVLM.
    add_strategy_arguments(parser, default="all", cache="off")
    parser.add_argument("--users", type=positive, default=20, help="users per strategy (default 20)")
    parser.add_argument(
        "--warmup", type=int, default=2, help="requests per strategy before the measurement (default 2)"
    )
    parser.add_argument("--seed", type=int, default=2024, help="seed of the choice of users (default 2024)")
    parser.add_argument("-k", type=positive, default=10, help="items per answer (default 10)")
    add_markdown_argument(parser)
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code, 1 when a request failed.

    Raises:
        BenchmarkError: the bundle or the service is not usable.
    """
    bundle = bundle_of(arguments)
    cases = list(Cohort(bundle.catalogue, arguments.users, arguments.seed))
    found = machine.facts()
    rows = asyncio.run(_measure(arguments, cases, vectors_of_users(bundle)))
    page = _page(rows, bundle, found)
    publish(page, arguments.markdown)
    if arguments.json:
        numbers = {
            "machine": found,
            "options": lvlm_options(arguments),
            "rows": [row.to_json() for row in rows],
        }
        write_text(arguments.json, json.dumps(numbers, indent=2, allow_nan=False) + "\n")
    return int(any(row.failures for row in rows))


def summarise(strategy: str, replies: Sequence[Reply], added: HistogramTotal) -> StrategyTimes:
    """Averages the replies of one strategy.

    Raises:
        ValueError: there are no replies.
    """
    seconds = [reply.seconds for reply in replies]
    answers = [reply.body for reply in replies if reply.error is None]
    calls: list[Mapping[str, Any]] = [body["lvlm"] for body in answers if body.get("lvlm")]
    outcomes = [str(body.get("outcome")) for body in answers] + ["failed"] * (len(replies) - len(answers))
    costs: list[float | None] = [call.get("cost_usd") for call in calls]
    return StrategyTimes(
        strategy=strategy,
        users=len(replies),
        failures=len(replies) - len(answers),
        outcomes={outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))},
        client_mean=mean(seconds),
        client_p50=percentile(seconds, 50),
        client_p95=percentile(seconds, 95),
        histogram_mean=added.mean,
        histogram_count=round(added.count),
        # Divided by the number of all users, those without a call included.
        input_tokens=sum(int(call.get("input_tokens") or 0) for call in calls) / len(replies),
        output_tokens=sum(int(call.get("output_tokens") or 0) for call in calls) / len(replies),
        cost_usd=None if (cost := known_sum(costs)) is None else cost / len(replies),
        models=tuple(sorted({f"{call.get('provider')}/{call.get('model')}" for call in calls})),
        simulated=any(is_simulated(call) for call in calls),
    )


def paper_seconds() -> dict[str, dict[str, float]]:
    """Reads the paper's seconds per user, by strategy and by model in the order of Table 2."""
    seconds: dict[str, dict[str, float]] = {"none": {RECOMMENDER: seconds_of(RECOMMENDER).inference}}
    for row in table2():
        if row.strategy is not None:
            seconds.setdefault(row.strategy.lower(), {})[row.model] = row.inference
    return seconds


def seconds_table(rows: Sequence[StrategyTimes], paper: Mapping[str, Mapping[str, float]]) -> Table:
    """Tabulates the client's and the service's seconds side by side, with the paper's for each model."""
    columns = (
        "strategy", "users", "client mean s", "histogram mean s", "difference ms", "difference %",
        "client p50 s", "client p95 s", "paper s", "input tokens", "output tokens", "cost USD", "outcomes",
    )  # fmt: skip
    return Table(columns, tuple(_cells(row, paper.get(row.strategy, {})) for row in rows))


def training_table(bundle: Bundle) -> Table:
    """Tabulates the training time of every backbone, from its manifest, with the paper's beside it."""
    manifests = [backbone.manifest for backbone in bundle.backbones.values()]
    return Table(
        ("backbone", "family", "d", "L", "s per epoch", "paper s per epoch", "epochs", "device"),
        tuple(
            (
                m.name,
                m.family,
                str(m.dimension),
                str(m.length),
                f"{m.seconds_per_epoch:.1f}",
                _paper_epoch(m),
                str(m.epochs),
                m.device,
            )
            for m in manifests
        ),
    )


def _paper_epoch(manifest: BackboneManifest) -> str:
    """Writes the seconds of an epoch of the recommender's row in Table 2; a dash without a row."""
    name = method_of(manifest.family, manifest.modalities)
    rows = [row for row in table2() if row.model == name and row.strategy is None]
    return f"{rows[0].training:g}" if rows else NO_VALUE


async def _measure(
    arguments: argparse.Namespace, cases: Sequence[Case], with_vectors: frozenset[str]
) -> list[StrategyTimes]:
    names = strategies(arguments)
    total = len(names) * (arguments.warmup + len(cases))
    async with ServiceClient(arguments.url) as client:
        first = cases[0].whose(with_user=False)
        replies = await client.check_serves(first, lvlm_options(arguments), names)
        with_user = {name: backbone_of(reply) in with_vectors for name, reply in replies.items()}
        with tqdm(total=total, unit="request", disable=None) as bar:
            measured = [
                await _measure_one(client, name, arguments, cases, with_user[name], bar) for name in names
            ]
    return [row for row in measured if row]


async def _measure_one(
    client: ServiceClient,
    strategy: str,
    arguments: argparse.Namespace,
    cases: Sequence[Case],
    with_user: bool,
    bar: tqdm[Any],
) -> StrategyTimes | None:
    """Measures one strategy, one request at a time: seconds per user, not throughput.

    Requests name the user where the backbone has vectors of users, as those of a shop would.

    Returns None when the service refuses the strategy.
    """

    async def ask(case: Case) -> Reply:
        payload: dict[str, Any] = {**case.whose(with_user=with_user), "k": arguments.k}
        if arguments.deadline_ms is not None:
            payload["deadline_ms"] = arguments.deadline_ms
        reply = await client.recommend(payload, {"strategy": strategy, **lvlm_options(arguments)})
        bar.update()
        return reply

    # The first request may load and connect everything, so it is never measured.
    first = await ask(cases[0])  # also the first warm-up
    # A strategy that the service refuses, for want of a backbone for one, is left out of the page.
    if first.status is not None and 400 <= first.status < 500:
        tqdm.write(f"{strategy} is left out: the service refuses it ({first.error})", file=sys.stderr)
        return None
    for case in itertools.islice(itertools.cycle(cases), max(0, arguments.warmup - 1)):
        await ask(case)
    # The observations that are added after this scrape are the measurement.
    before = await _settled(client, strategy)
    replies = [await ask(case) for case in cases]  # one after the other
    after = await _observed(client, strategy, before.count + len(replies))
    return summarise(strategy, replies, after.since(before))


async def _settled(client: ServiceClient, strategy: str) -> HistogramTotal:
    """Reads the histogram once two scrapes agree: a warm-up request may be observed after it was answered."""
    total = await _scrape(client, strategy)
    for _ in range(POLLS):
        await asyncio.sleep(POLL_SECONDS)
        previous, total = total, await _scrape(client, strategy)
        if total == previous:
            break
    return total


async def _observed(client: ServiceClient, strategy: str, count: float) -> HistogramTotal:
    """Reads the histogram once it holds ``count`` observations, or after two seconds as it is."""
    for _ in range(POLLS):
        total = await _scrape(client, strategy)
        # Other clients may add observations too; then the page has a warning.
        if total.count >= count:
            break
        await asyncio.sleep(POLL_SECONDS)
    return total


async def _scrape(client: ServiceClient, strategy: str) -> HistogramTotal:
    return histogram_total(await client.metrics(), REQUEST_DURATION, {"strategy": strategy})


def _cells(row: StrategyTimes, paper: Mapping[str, float]) -> tuple[str, ...]:
    # The mean is 0 s where a test's clock stands still; then the share is not defined.
    share = row.difference / row.client_mean if row.client_mean else math.nan
    return (
        row.strategy,
        str(row.users),
        f"{row.client_mean:.4f}",
        _figure(row.histogram_mean, 4),
        _figure(1000 * row.difference, 2),
        _figure(100 * share, 1),
        f"{row.client_p50:.4f}",
        f"{row.client_p95:.4f}",
        " / ".join(f"{seconds:g}" for seconds in paper.values()) or NO_VALUE,
        f"{row.input_tokens:.0f}",
        f"{row.output_tokens:.0f}",
        dollars(row.cost_usd, 6, simulated=row.simulated),
        ", ".join(f"{outcome} {count}" for outcome, count in row.outcomes.items()),
    )


def _figure(value: float, digits: int) -> str:
    """Writes a figure for a cell; a dash for NaN, which the histogram gives without an observation."""
    return NO_VALUE if math.isnan(value) else f"{value:.{digits}f}"


def _page(rows: Sequence[StrategyTimes], bundle: Bundle, found: Mapping[str, Any]) -> str:
    if not rows:
        raise BenchmarkError("the service refused every strategy: nothing was measured")
    notes = [f"**{SIMULATED_WARNING}**\n"] if any(row.simulated for row in rows) else []
    notes += [
        f"**{row.strategy}: {row.histogram_count} observations for {row.users} requests; another client used "
        "the service, so its histogram column is not this measurement.**\n"
        for row in rows
        if not row.undisturbed
    ]
    models = sorted({model for row in rows for model in row.models})
    paper = paper_seconds()
    return "\n".join(
        (
            f"## Seconds per user: {bundle.catalogue.manifest.dataset}\n",
            *notes,
            machine.describe(dict(found)) + f"- LVLM: {', '.join(models) or 'none was asked'}\n",
            seconds_table(rows, paper).markdown(),
            "Client: one request at a time, connection kept alive. Histogram: `_sum`/`_count` of "
            f"`{REQUEST_DURATION}` over the same requests. Paper: Table 2, hosted models through their "
            f"public APIs, {' / '.join(paper['s1'])}, one figure for all in s2; none is {RECOMMENDER}. "
            "Tokens and cost are per user.\n",
            training_table(bundle).markdown(),
        )
    )
