"""The bill of an attempt or a call: tokens and US dollars."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.lvlm.providers.base import Usage


@dataclass(frozen=True, slots=True)
class Bill:
    """Tokens and US dollars of an attempt, or the sum over several.

    Attributes:
        usage: tokens.
        cost_usd: US dollars, at least 0; None if the price of any model is unknown.
        estimated: whether any part of the usage is estimated, since the provider did not report it.
    """

    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = 0.0
    estimated: bool = False

    def __add__(self, other: Bill) -> Bill:
        # One unknown price makes the sum unknown: a sum without it would look too cheap.
        unknown = self.cost_usd is None or other.cost_usd is None
        return Bill(
            Usage(*(getattr(self.usage, f) + getattr(other.usage, f) for f in Usage.__slots__)),
            None if unknown else (self.cost_usd or 0.0) + (other.cost_usd or 0.0),
            self.estimated or other.estimated,
        )

    def mean(self, count: int) -> Bill:
        """Returns the mean of a total over ``count`` calls, at least 1; token counts are rounded."""
        usage = Usage(*(round(getattr(self.usage, f) / count) for f in Usage.__slots__))
        return Bill(usage, None if self.cost_usd is None else self.cost_usd / count, self.estimated)
