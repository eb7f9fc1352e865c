"""Interleaved rounds: what is compared is measured in turns, so that a busy machine is unfair to nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from benchmarks.stats import median

T = TypeVar("T")


def interleaved(ways: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Measure every way once per round; the order is turned around from round to round.

    Raises:
        ValueError: no rounds.
    """
    if rounds < 1:
        raise ValueError("at least one round is needed")
    found: dict[str, list[T]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(ways[name]())
    return found


def median_ratio(numerators: list[float], denominators: list[float]) -> float:
    """The median over rounds of the ratio within a round, which cancels what slowed the whole round.

    Raises:
        ValueError: the lists are empty or differ in length.
    """
    return median([n / d for n, d in zip(numerators, denominators, strict=True)])
