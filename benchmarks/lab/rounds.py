"""Measures alternatives in interleaved rounds, and compares them by ratios with limits.

A minute in which the machine is slow then slows all alternatives alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.lab.stats import median

T = TypeVar("T")


def interleaved(alternatives: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Measures every alternative once per round, in an order that is reversed from round to round.

    Raises:
        ValueError: ``rounds`` is less than 1.
    """
    if rounds < 1:
        raise ValueError("at least one round is needed")
    found: dict[str, list[T]] = {name: [] for name in alternatives}
    for number in range(rounds):
        # Reversed, so that no alternative always runs on a cold or a hot processor.
        for name in list(alternatives)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(alternatives[name]())
    return found


@dataclass(frozen=True)
class Ratio:
    """A ratio of two alternatives, computed within each round, where what slowed both cancels.

    Attributes:
        median: median over rounds.
        low: smallest ratio of a round.
        high: largest ratio of a round.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
        """Makes the ratio by dividing round by round.

        Raises:
            ValueError: the lists are empty or differ in length.
        """
        ratios = [n / d for n, d in zip(numerators, denominators, strict=True)]
        return cls(median(ratios), min(ratios), max(ratios))

    def __str__(self) -> str:
        return f"{self.median:.2f}"

    @property
    def spread(self) -> str:
        """The smallest and the largest ratio of the rounds, as text."""
        return f"{self.low:.2f}–{self.high:.2f}"


@dataclass(frozen=True)
class Limit:
    """Bounds that the median of a ratio must keep.

    Attributes:
        name: name of what is measured, for the page.
        least: smallest median that meets the limit; None for no such bound.
        most: largest median that meets the limit; None for no such bound.
    """

    name: str
    least: float | None = None
    most: float | None = None

    def broken_by(self, ratio: Ratio | None) -> bool:
        """Returns whether the ratio is outside the bounds; False for one that was not measured (None)."""
        if ratio is None:
            return False
        # A ratio that equals a bound keeps it.
        enough = self.least is None or ratio.median >= self.least
        return not (enough and (self.most is None or ratio.median <= self.most))

    def verdict(self, ratio: Ratio | None) -> str:
        """Returns a sentence about whether the ratio met the limit; None is a ratio that was not measured."""
        sides = (("at least", self.least), ("at most", self.most))
        held = (
            f"{self.name} {' and '.join(f'{word} {bound:g}' for word, bound in sides if bound is not None)}"
        )
        if ratio is None:
            return f"{held}: not measured in this run"
        return f"{held}: {ratio.median:.3f}, {'not met' if self.broken_by(ratio) else 'met'}"


LimitChecks = Sequence[tuple[Limit, Ratio | None]]
"""Limits, each with the ratio that was measured for it."""


def verdicts(checks: LimitChecks) -> str:
    """Returns a Markdown list of the limits with whether each was met."""
    return "\n".join(f"- {limit.verdict(ratio)}" for limit, ratio in checks)


def any_broken(checks: LimitChecks) -> bool:
    """Returns whether any limit is broken."""
    return any(limit.broken_by(ratio) for limit, ratio in checks)
