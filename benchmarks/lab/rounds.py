"""Interleaved rounds: what is compared is measured in turns, so that a busy machine is unfair to nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.lab.stats import median

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


@dataclass(frozen=True)
class Ratio:
    """Ratios within a round, which cancel what slowed the whole round: median and extremes over rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
        """Divide round by round.

        Raises:
            ValueError: the lists are empty or differ in length.
        """
        ratios = [n / d for n, d in zip(numerators, denominators, strict=True)]
        return cls(median(ratios), min(ratios), max(ratios))

    def __str__(self) -> str:
        return f"{self.median:.2f}"

    @property
    def spread(self) -> str:
        """The smallest and the largest of the rounds."""
        return f"{self.low:.2f}–{self.high:.2f}"


@dataclass(frozen=True)
class Limit:
    """What the median of a ratio is held to: at least ``least`` and at most ``most``."""

    name: str
    least: float | None = None
    most: float | None = None

    def broken_by(self, ratio: Ratio | None) -> bool:
        """Whether a run broke it; one that did not measure the ratio (None) did not."""
        if ratio is None:
            return False
        enough = self.least is None or ratio.median >= self.least
        return not (enough and (self.most is None or ratio.median <= self.most))

    def verdict(self, ratio: Ratio | None) -> str:
        """Whether this run met it; None stands for a ratio that was not measured."""
        sides = (("at least", self.least), ("at most", self.most))
        held = (
            f"{self.name} {' and '.join(f'{word} {bound:g}' for word, bound in sides if bound is not None)}"
        )
        if ratio is None:
            return f"{held}: not measured in this run"
        return f"{held}: {ratio.median:.3f}, {'not met' if self.broken_by(ratio) else 'met'}"


Held = Sequence[tuple[Limit, Ratio | None]]
"""Limits, each with what was measured of it."""


def verdicts(held: Held) -> str:
    """A line for each limit."""
    return "\n".join(f"- {limit.verdict(ratio)}" for limit, ratio in held)


def any_broken(held: Held) -> bool:
    """Whether the run broke a limit."""
    return any(limit.broken_by(ratio) for limit, ratio in held)
