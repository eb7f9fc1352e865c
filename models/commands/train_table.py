"""Lays out what a training has reached, in percent, as the papers print it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from models.evaluation import (
    EVERYONE,
    FULL,
    SAMPLED,
    CandidateSource,
    CohortChoice,
    candidates_in_words,
    cohort_in_words,
    fewer_in_words,
)
from models.printed_table import NO_VALUE
from models.training.measure import part_name


def train_table(
    result: Mapping[str, Any],
    baselines: Mapping[str, Mapping[str, float | None]],
    drawn: CandidateSource,
    asked: CandidateSource,
    cohort: CohortChoice = EVERYONE,
    refit: Mapping[str, Any] | None = None,
    encoders: str = "",
) -> str:
    """Makes the table of a finished run.

    Args:
        result: result of the run, measured with both sources.
        baselines: figures of Random and Pop on the test part, over the candidates asked for.
        drawn: candidates of the validation part.
        asked: candidates of the test part, the drawn ones or others.
        cohort: users of the test part.
        refit: result of the run that was trained anew on training and validation, if there is one.
        encoders: words about the encoders that the model reads, if any.
    """
    metrics = result["metrics"]
    parts = {"validation": metrics["validation"], "test": metrics[part_name(asked, cohort)]}
    rows = (
        dict(parts) if refit is None else {**parts, "test, refit": refit["metrics"][part_name(asked, cohort)]}
    )
    lines = [_row("", (*SAMPLED, *(f"{name}*" for name in FULL)), "users")]
    for name, numbers in rows.items():
        shares = (*(numbers[m] for m in SAMPLED), *(numbers["full"][m] for m in FULL))
        lines.append(_row(name, map(_percent, shares), f"{numbers['users']:,}"))
    for name, figures in baselines.items():
        shares = tuple(figures[m] for m in SAMPLED)
        lines.append(_row(name, [*map(_percent, shares), "", ""], f"{_sampled_users(parts['test']):,}"))
    lines += [
        f"{_candidates(drawn, asked)}, ties against the target; * over the whole catalogue; "
        "Random and Pop on test",
        *([] if (chosen := cohort.to_json()) is None else [f"test on {cohort_in_words(chosen)}"]),
        *_left_out(parts["validation"], drawn, "validation"),
        *_left_out(parts["test"], asked, "test"),
        *_fewer(parts["test"]),
        *([f"encoders     {encoders}"] if encoders else []),
        f"epochs       {result['epochs']} ({_best(result)}), "
        f"{result['seconds_per_epoch']:.1f} s each on {result['device']}",
        *_ended(result),
        *([] if refit is None else [_refitted(refit)]),
    ]
    return "\n".join(lines)


def percents(numbers: Mapping[str, Any], names: Iterable[str]) -> str:
    """Returns figures with their names in one line, ``H@1 12.34  H@5 –``."""
    return "  ".join(f"{name} {_percent(numbers.get(name))}" for name in names)


def _row(name: str, cells: Iterable[str], users: str) -> str:
    return f"{name:<12} {' '.join(f'{cell:>6}' for cell in cells)} {users:>7}"


def _percent(share: float | None) -> str:
    return NO_VALUE if share is None else f"{100 * share:.2f}"


def _sampled_users(numbers: Mapping[str, Any]) -> int:
    # A run from before users were left out has candidates for all.
    return int(numbers.get("sampled_users", numbers["users"]))


def _fewer(numbers: Mapping[str, Any]) -> list[str]:
    fewer = numbers.get("fewer_candidates", 0)
    return [f"test: {fewer_in_words(fewer)}"] if fewer else []


def _candidates(drawn: CandidateSource, asked: CandidateSource) -> str:
    if asked.name == drawn.name:
        return candidates_in_words(drawn.to_json())
    return (
        f"test {candidates_in_words(asked.to_json())}, which has none for the validation item: "
        f"validation {candidates_in_words(drawn.to_json())}"
    )


def _left_out(numbers: Mapping[str, Any], source: CandidateSource, part: str) -> list[str]:
    users, sampled = int(numbers["users"]), _sampled_users(numbers)
    if sampled == users:
        return []
    if not sampled:
        return [f"{part}: no user has {source.missing}, so {', '.join(SAMPLED)} have no value"]
    who = f"{users - sampled:,} users, who count" if users - sampled != 1 else "1 user, who counts"
    return [f"{part} without {source.missing}: {who} in * alone"]


def _ended(result: Mapping[str, Any]) -> list[str]:
    if result.get("ended_by") != "minutes":
        return []
    rises = "validation still rises" if result["still_rising"] else "validation no longer rises"
    return [f"ended by     its minutes; {rises}; {result['hours_to_last_epoch']:.1f} hours to the last epoch"]


def _refitted(result: Mapping[str, Any]) -> str:
    return (
        f"refit        trained anew on training and validation, {result['epochs']} epochs, "
        f"{result['seconds_per_epoch']:.1f} s each"
    )


def _best(result: Mapping[str, Any]) -> str:
    best = f"best {result['best_epoch']}"
    # N@5 over candidates is the usual one, and needs no words.
    by_all_items = result.get("selected_by") in ("full.N@10", "N@10")  # the latter: of an older version
    return f"{best} by validation N@10*" if by_all_items else best
