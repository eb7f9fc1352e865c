"""What a call to a provider took: tokens and US dollars."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.lvlm.providers.base import Usage


@dataclass(frozen=True, slots=True)
class Bill:
    """What an attempt, or several together, took.

    Attributes:
        usage: tokens.
        cost_usd: US dollars; None if a model's price is not known.
        estimated: whether the provider left out a part of the usage, which was estimated.
    """

    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = 0.0
    estimated: bool = False

    def __add__(self, other: Bill) -> Bill:
        unknown = self.cost_usd is None or other.cost_usd is None
        return Bill(
            Usage(*(getattr(self.usage, f) + getattr(other.usage, f) for f in Usage.__slots__)),
            None if unknown else (self.cost_usd or 0.0) + (other.cost_usd or 0.0),
            self.estimated or other.estimated,
        )

    def mean(self, count: int) -> Bill:
        """Divides a total over ``count`` calls; token counts are rounded."""
        usage = Usage(*(round(getattr(self.usage, f) / count) for f in Usage.__slots__))
        return Bill(usage, None if self.cost_usd is None else self.cost_usd / count, self.estimated)
