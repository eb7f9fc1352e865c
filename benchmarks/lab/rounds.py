"""Measures alternatives in interleaved rounds, so that a slow minute of the machine slows all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.lab.stats import median

T = TypeVar("T")


def interleaved(alternatives: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Measures every alternative once per round; the order is turned around from round to round.

    Raises:
        ValueError: no rounds.
    """
    if rounds < 1:
        raise ValueError("at least one round is needed")
    found: dict[str, list[T]] = {name: [] for name in alternatives}
    for number in range(rounds):
        # The order is turned around, so that no alternative always runs on a cold or a hot processor.
        for name in list(alternatives)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(alternatives[name]())
    return found


@dataclass(frozen=True)
class Ratio:
    """A ratio of two alternatives: taken within each round, shown as median and extremes over rounds.

    Within a round, what slowed both cancels.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
        """Divides round by round.

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
    """What the median of a ratio is held to.

    Attributes:
        name: what is measured, for the page.
        least: smallest median that meets the limit; None for no such bound.
        most: largest median that meets the limit; None for no such bound.
    """

    name: str
    least: float | None = None
    most: float | None = None

    def broken_by(self, ratio: Ratio | None) -> bool:
        """Whether the ratio is outside the bounds; one that was not measured (None) is not."""
        if ratio is None:
            return False
        # A bound that is met exactly is met.
        enough = self.least is None or ratio.median >= self.least
        return not (enough and (self.most is None or ratio.median <= self.most))

    def verdict(self, ratio: Ratio | None) -> str:
        """Says in a sentence whether the ratio met the limit; None stands for one that was not measured."""
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
    """Lists the limits, a Markdown item for each, with whether it was met."""
    return "\n".join(f"- {limit.verdict(ratio)}" for limit, ratio in checks)


def any_broken(checks: LimitChecks) -> bool:
    """Whether any limit is broken."""
    return any(limit.broken_by(ratio) for limit, ratio in checks)
