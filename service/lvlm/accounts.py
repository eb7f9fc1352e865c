"""The books: tokens, US dollars and seconds of every attempt, also of those that failed or were cut."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from dataclasses import dataclass, field

from service.lvlm.attempt import Attempt
from service.lvlm.expectations import Expectations
from service.lvlm.pricing import Prices
from service.lvlm.providers.base import Call, FailureKind, FinishReason, Usage
from service.metrics import Metrics

SIMULATOR = "simulator"


@dataclass(frozen=True, slots=True)
class Bill:
    """What an attempt, or several together, took.

    Attributes:
        cost_usd: None if a model's price is not known.
        estimated: some of it was not told by the provider.
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
        """The bill of one of so many."""
        usage = Usage(*(round(getattr(self.usage, f) / count) for f in Usage.__slots__))
        return Bill(usage, None if self.cost_usd is None else self.cost_usd / count, self.estimated)


class Accounts:
    """Keeps the books in the metrics.

    Args:
        free: names of providers whose tokens cost nothing.
        bill_simulated: count what simulated answers would have cost; for rehearsals.
    """

    def __init__(
        self,
        prices: Prices,
        metrics: Metrics,
        *,
        free: Collection[str] = (),
        bill_simulated: bool = False,
    ) -> None:
        self._prices = prices
        self._metrics = metrics
        self._simulators = frozenset(free)
        self._free = frozenset(() if bill_simulated else free)
        self._bill_simulated = bill_simulated
        self._seen_simulated: set[str] = set()
        self._expectations = Expectations(prices)

    def expected(self, provider: str, call: Call) -> Bill:
        """What the next attempt will take."""
        usage = self._expectations.expected(provider, call)
        return Bill(usage, self._cost(provider, call, usage), estimated=True)

    def so_far(self, attempt: Attempt) -> Bill:
        """What an attempt has taken until now."""
        usage, estimated = self._usage(attempt)
        if attempt.simulated:
            self._seen_simulated.add(attempt.provider)
        # An attempt that is cut before its first word says nothing: it is like those before it.
        simulated = attempt.simulated or (attempt.source is None and attempt.provider in self._seen_simulated)
        simulated = simulated and not self._bill_simulated
        cost = 0.0 if simulated else self._cost(attempt.provider, attempt.call, usage)
        return Bill(usage, cost, estimated)

    def enter(self, attempt: Attempt) -> Bill:
        """Enter an attempt that has ended."""
        bill, metrics = self.so_far(attempt), self._metrics
        provider, model = attempt.provider, attempt.call.model
        if not bill.estimated and attempt.reason is FinishReason.STOP and attempt.usage:
            self._expectations.learn(attempt, bill.usage)
        metrics.lvlm_call_duration.labels(provider, model, attempt.outcome).observe(attempt.seconds)
        if attempt.first_text is not None and attempt.call.stream:
            metrics.lvlm_time_to_first_token.labels(provider, model).observe(attempt.first_text)
        counted = {
            "input": bill.usage.input_tokens,
            "output": bill.usage.output_tokens,
            "cached_input": bill.usage.cached_input_tokens,
            "image": bill.usage.image_tokens,
        }
        for direction, tokens in counted.items():
            metrics.lvlm_tokens.labels(provider, model, direction).inc(tokens)
            if bill.estimated:
                metrics.lvlm_estimated_tokens.labels(provider, model, direction).inc(tokens)
        # Dollars of a simulated answer were not spent: they stand under the simulator's name.
        payer = SIMULATOR if attempt.simulated and provider not in self._simulators else provider
        metrics.lvlm_cost.labels(payer, model).inc(bill.cost_usd or 0.0)
        return bill

    def warning(self, provider: str, model: str, *, refused: bool = False) -> str | None:
        """What an answer of this model must say about its price; ``refused``: it needs one to be called."""
        if provider in self._free:
            return None
        return self._prices.warning(model, datetime.date.today(), refused=refused)

    def _cost(self, provider: str, call: Call, usage: Usage) -> float | None:
        return 0.0 if provider in self._free else self._prices.cost(call.model, usage)

    def _usage(self, attempt: Attempt) -> tuple[Usage, bool]:
        """Tokens of an attempt, and whether any of them are estimated."""
        if not attempt.begun:
            return Usage(), False
        told = self._expectations.told(attempt)
        if told is not None:
            return told, False
        if attempt.failure in _UNBILLED and not attempt.started:
            return Usage(), False
        return self._expectations.taken(attempt), True


_UNBILLED = frozenset(FailureKind) - {
    FailureKind.CONNECTION,
    FailureKind.TRUNCATED,
    FailureKind.SILENT,
}
"""Failures that come before any work unless text or usage has arrived; nobody bills those."""
