"""Command ``score``: makes tables of accuracy, repairs and time from the records of replays."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.lab.cells import counted, dollars
from benchmarks.lab.pages import add_markdown_argument, publish, write_text
from benchmarks.paper.accuracy import SIMULATED_WARNING, Accuracy, StrategyResult, by_strategy, score
from benchmarks.paper.records import RecordedRun, read_records
from models import machine
from models.evaluation import (
    SAMPLED,
    UniformCohort,
    candidates_in_words,
    cohort_in_words,
    fewer_in_words,
)
from models.printed_table import NO_VALUE, Table
from service.strategies import STRATEGIES

METRICS = SAMPLED
"""Metrics of the paper's tables."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("records", type=Path, nargs="+", help="files written by replay")
    add_markdown_argument(parser)
    parser.add_argument(
        "--csv", type=Path, help="also write one line per file, strategy and metric to this file"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints the tables; returns the exit code.

    Raises:
        BenchmarkError: a file of records is missing, damaged or empty.
    """
    runs = {path: read_records(path) for path in arguments.records}
    scores = {path: _scores(path, found) for path, found in runs.items()}
    pages = [_page(path, found, scores[path]) for path, found in runs.items()]
    publish("\n".join(pages), arguments.markdown)
    if arguments.csv:
        write_text(arguments.csv, _long_table(runs, scores).csv())
    return 0


def accuracy_table(scores: Iterable[StrategyResult]) -> Table:
    """Tabulates H@1, H@5 and N@5 in percent.

    First the strategy score with its 95 % interval, then the ranks as served, then N@5 without failures.
    """
    columns = (
        "strategy", "LVLM", "backbone", "users", *METRICS, *(f"{name} as served" for name in METRICS),
        "N@5 answered only (lenient)",
    )  # fmt: skip
    rows = []
    for found in scores:
        lenient = found.answered_only
        rows.append(
            (
                found.strategy,
                ", ".join(found.lvlms) or NO_VALUE,
                ", ".join(found.backbones) or NO_VALUE,
                str(found.strategy_score.users),
                *(_with_interval(found.strategy_score, name) for name in METRICS),
                *(_percent(found.as_served.values[name]) for name in METRICS),
                f"{_percent(lenient.values['N@5'])} of {lenient.users}" if lenient else NO_VALUE,
            )
        )
    return Table(columns, tuple(rows))


def behaviour_table(scores: Iterable[StrategyResult]) -> Table:
    """Tabulates failures, fallbacks, repairs, tokens, cost and the client's seconds."""
    columns = (
        "strategy", "failed", "fallbacks", "invented", "duplicated", "missing", "input tokens",
        "output tokens", "cost USD", "cache hits", "mean s", "p95 s", "outcomes",
    )  # fmt: skip
    rows = []
    for found in scores:
        # Without a price the cost is not estimated either.
        shows_estimates = found.estimated and found.cost_usd is not None
        estimated = f" ({found.estimated} estimated)" if shows_estimates else ""
        rows.append(
            (
                found.strategy,
                str(found.failures),
                str(found.fallbacks),
                *(str(found.repairs[kind]) for kind in ("invented", "duplicated", "missing")),
                *(str(found.tokens[kind]) for kind in ("input_tokens", "output_tokens")),
                dollars(found.cost_usd, 4, simulated=found.simulated) + estimated,
                str(found.cache_hits),
                f"{found.mean_seconds:.4f}",
                f"{found.p95_seconds:.4f}",
                ", ".join(f"{outcome} {count}" for outcome, count in sorted(found.outcomes.items())),
            )
        )
    return Table(columns, tuple(rows))


def missing_answers(run: RecordedRun, scores: Iterable[StrategyResult]) -> list[str]:
    """Returns a line for each strategy of which less than the whole cohort was answered."""
    cohort = run.header.get("cohort")
    if cohort is None:
        return ["**The file does not say how many users were to be asked: it may be a part of them.**"]
    return [
        f"**{found.strategy}: {found.answers} of {cohort} users answered ({found.failures} failed, "
        f"{cohort - found.strategy_score.users} not asked): this is not the result of the whole cohort.**"
        for found in scores
        if found.answers != cohort
    ]


def mixtures(scores: Iterable[StrategyResult]) -> list[str]:
    """Returns a warning for each strategy with answers of several models."""
    return [
        f"**Warning: {found.strategy} mixes answers of more than one {kind} ({', '.join(names)}): "
        "its row is the result of none of them.**"
        for found in scores
        for kind, names in (("LVLM", found.lvlms), ("backbone", found.backbones))
        if len(names) > 1
    ]


def cached_answers(scores: Iterable[StrategyResult]) -> list[str]:
    """Returns a line for each strategy with answers from the cache."""
    return [
        f"{found.cache_hits} of {found.answers} answers of {found.strategy} come from the cache: "
        "its seconds, tokens and cost are not those of asking the LVLM every time."
        for found in scores
        if found.cache_hits
    ]


def training_differences(run: RecordedRun, scores: Iterable[StrategyResult]) -> list[str]:
    """Compares strategies without an LVLM with the manifest of the backbone that answered.

    Only a complete replay of users and candidates that the manifest has figures of may be compared; for
    others no line is returned.
    """
    lines = []
    options = run.header.get("options", {})
    for found in scores:
        # A part of the cohort, or answers of two backbones, cannot be compared with one manifest.
        incomplete = found.answers != run.header.get("cohort") or len(found.backbones) != 1
        if STRATEGIES[found.strategy].asks_lvlm or incomplete:
            continue
        names = {
            (r.get("backbone") or {}).get("name") for r in run.records if r["strategy"] == found.strategy
        }
        for name in sorted(name for name in names if name):
            metrics = run.header.get("backbones", {}).get(name, {}).get("metrics", {})
            trained = sampled_test_metrics(metrics, options.get("protocol", {}), chosen_users(options))
            if trained:
                values = found.strategy_score.values
                differences = ", ".join(
                    f"{m} {_percent(values[m])} here and {_percent(trained[m])} in training" for m in trained
                )
                lines.append(f"{found.strategy} over HTTP beside the manifest of {name}: {differences}.")
    return lines


def chosen_users(options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns the choice of users that a replay's options name, as metrics name it; None for all users."""
    if (chosen := options.get("cohort")) is not None:
        return chosen if isinstance(chosen, Mapping) else {"name": chosen}
    users, seed = options.get("users"), options.get("seed", UniformCohort().seed)
    return None if users is None else UniformCohort(users, seed).to_json()


def sampled_test_metrics(
    metrics: Mapping[str, Any], protocol: Mapping[str, Any], chosen: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """Returns H@1, H@5 and N@5 of a manifest's test part, as shares of one; empty if there is none.

    A manifest has one test part for each choice of users and source of candidates that the run was measured
    with.
    """
    for name, part in metrics.items():
        if not name.startswith("test") or not isinstance(part, Mapping):
            continue
        # Metrics with other negatives, or of other users, cannot be compared.
        if part.get("protocol") == protocol and part.get("cohort") == chosen:
            # Without a user who has candidates, a part has no values.
            return {metric: float(part[metric]) for metric in METRICS if part.get(metric) is not None}
    return {}


def _scores(path: Path, run: RecordedRun) -> list[StrategyResult]:
    groups = by_strategy(run.records)
    if not groups:
        raise BenchmarkError(f"{path} holds no answer yet: run the replay first")
    # The strategy decides which items count, so an unknown one cannot be scored.
    unknown = sorted(groups.keys() - STRATEGIES.keys())
    if unknown:
        raise BenchmarkError(
            f"{path} holds the strategy {unknown[0]!r}, which does not exist: was the file edited?"
        )
    return [score(name, records) for name, records in groups.items()]


def _page(path: Path, run: RecordedRun, scores: list[StrategyResult]) -> str:
    header = run.header
    warning = [f"**{SIMULATED_WARNING}**"] if any(found.simulated for found in scores) else []
    return "\n".join(
        (
            f"## {path.name}: {header.get('dataset')}\n",
            *(line + "\n" for line in (*warning, *missing_answers(run, scores), *mixtures(scores))),
            machine.describe(header["machine"]),
            _shown_options(header.get("options", {})),
            *_left_out(header.get("left_out", {})),
            *_fewer(run),
            "Percent. Strategy score: only places that the strategy itself gave count and a failed answer "
            "is a miss; brackets: 95 % interval.\n",
            accuracy_table(scores).markdown(),
            behaviour_table(scores).markdown(),
            *(line + "\n" for line in (*cached_answers(scores), *training_differences(run, scores))),
        )
    )


def _shown_options(options: Mapping[str, Any]) -> str:
    shown = {
        name: value
        for name, value in options.items()
        if name not in ("protocol", "backbones", "cohort") and value is not None
    }
    chosen, protocol = options.get("cohort"), options.get("protocol", {})
    parts = [
        *([cohort_in_words(chosen)] if chosen else []),
        *([", ".join(f"{name} {value}" for name, value in shown.items())] if shown else []),
        candidates_in_words(protocol),
    ]
    return f"- options: {'; '.join(parts)}\n"


def _left_out(left_out: Mapping[str, Any]) -> list[str]:
    if not left_out.get("users"):
        return []
    return [f"- not in the cohort: {counted(left_out['users'], 'user')} without {left_out['missing']}\n"]


def _fewer(run: RecordedRun) -> list[str]:
    negatives = run.header.get("options", {}).get("protocol", {}).get("negatives")
    if not isinstance(negatives, int):
        return []
    lists = ((record["user"], record.get("candidates")) for record in run.records)
    users = {user for user, items in lists if isinstance(items, list) and len(items) <= negatives}
    return [f"- {fewer_in_words(len(users))}\n"] if users else []


def _long_table(runs: Mapping[Path, RecordedRun], scores: Mapping[Path, list[StrategyResult]]) -> Table:
    rows = []
    for path, found_scores in scores.items():
        for found in found_scores:
            kinds = {
                "strategy": found.strategy_score,
                "as served": found.as_served,
                "answered only": found.answered_only,
            }
            for kind, values in kinds.items():
                if values is None:
                    continue
                for name in METRICS:
                    low, high = values.intervals[name]
                    numbers = (values.values[name], low, high)
                    rows.append(
                        (
                            str(path),
                            found.strategy,
                            ", ".join(found.lvlms),
                            ", ".join(found.backbones),
                            kind,
                            name,
                            str(values.users),
                            str(runs[path].header.get("cohort", "")),
                            *(f"{v:.6f}" for v in numbers),
                        )
                    )
    columns = (
        "records", "strategy", "lvlm", "backbone", "score", "metric", "users", "cohort",
        "value", "low", "high",
    )  # fmt: skip
    return Table(columns, tuple(rows))


def _with_interval(found: Accuracy, name: str) -> str:
    low, high = found.intervals[name]
    return f"{_percent(found.values[name])} [{_percent(low)}, {_percent(high)}]"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
