"""Checks an answer under load: it must be complete, without repetition, and of a known outcome."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

OUTCOMES = (
    "ok", "repaired", "partial", "cold_start",
    "fallback_deadline", "fallback_provider", "fallback_answer", "fallback_limit", "fallback_budget",
)  # fmt: skip
"""Outcomes of the service, repeated here since a load test imports nothing of it; a test compares the two."""


def problem_with(answer: Any, strategy: str, k: int, left_out: Collection[str]) -> str | None:
    """Finds what is wrong with the answer to ``POST /recommend``; returns None for a good one.

    A fallback is a good answer, since it has ``k`` items too.

    Args:
        answer: answer as decoded JSON.
        strategy: strategy that was asked for.
        k: number of items that the answer must have.
        left_out: ids of items that must not be in the answer: those of the request's history.
    """
    if not isinstance(answer, dict):
        return "the answer is no JSON object"
    if answer.get("strategy") != strategy:
        return f"asked for {strategy}, answered for {answer.get('strategy')}"
    if outcome_of(answer) not in OUTCOMES:
        return f"unknown outcome {outcome_of(answer)}"
    items = answer.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return "no list of items"
    return _problem_with_items([str(item.get("item_id")) for item in items], k, left_out)


def _problem_with_items(item_ids: list[str], k: int, left_out: Collection[str]) -> str | None:
    if len(item_ids) != k:
        return f"{len(item_ids)} items in place of {k}"
    if len(set(item_ids)) != k:
        return "an item comes twice"
    # Sorted, so that the same wrong answer has the same message: Locust counts failures by message.
    seen = sorted(set(item_ids) & set(left_out))
    return f"the answer repeats {seen[0]} of the history" if seen else None


def outcome_of(answer: Any) -> str:
    """Returns the answer's outcome; ``none`` for an answer without one."""
    return str(answer.get("outcome", "none")) if isinstance(answer, dict) else "none"
