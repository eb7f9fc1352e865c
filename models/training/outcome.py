"""Checks the outcome of a training: a damaged ``result.json`` may hold anything."""

from __future__ import annotations

from typing import Any

from models.evaluation import FULL, SAMPLED
from models.training.progress import LAST

LARGEST = 2**31 - 1
"""Largest count that an outcome holds, of epochs or users for one."""


def is_outcome(record: Any) -> bool:
    """Returns whether a record holds all that the table, an export and a further training read of it."""
    try:
        metrics = record["metrics"]
        return (
            _is_count(record["epochs"])
            and _is_count(record["best_epoch"])
            and _is_number(record["seconds_per_epoch"], LARGEST)
            and isinstance(record["device"], str)
            and isinstance(record.get("selected_by"), str | None)
            and isinstance(record.get("ended_by"), str | None)
            and _is_number(record.get("training_seconds", 0.0), LARGEST)
            and _is_number(record.get("hours_to_last_epoch", 0.0), LARGEST)
            # The table says both of a training that its minutes ended.
            and (record.get("ended_by") != "minutes" or isinstance(record["still_rising"], bool))
            and (record.get("ended_by") != "minutes" or "hours_to_last_epoch" in record)
            and isinstance(record.get("sha256", {}), dict)
            and _is_count(metrics["test"]["protocol"]["seed"])
            # A training that keeps its last weights has no validation.
            and (record.get("selected_by") == LAST or "validation" in metrics)
            and all(map(_is_part, metrics.values()))
        )
    except (LookupError, TypeError, AttributeError):
        return False


def _is_part(part: Any) -> bool:
    # Without a user who has candidates, the figures over candidates are None.
    sampled = [part[name] for name in SAMPLED if part[name] is not None]
    counts = [part["users"], part["protocol"]["negatives"]]
    counts += [part.get(name, 0) for name in ("sampled_users", "fewer_candidates")]
    shares = [*sampled, *(part["full"][name] for name in FULL)]
    return all(_is_number(share, 1) for share in shares) and all(map(_is_count, counts))


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST


def _is_number(value: Any, largest: int) -> bool:
    return type(value) in (int, float) and 0 <= value <= largest  # false for NaN
