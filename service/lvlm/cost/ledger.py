"""The ledger: tokens, US dollars and seconds of every attempt, also of those that failed or were cut."""

from __future__ import annotations

import datetime
from collections.abc import Collection

from service.lvlm.attempt import Attempt
from service.lvlm.bill import Bill
from service.lvlm.cost.prices import Prices
from service.lvlm.cost.usage_estimator import UsageEstimator
from service.lvlm.providers.base import SIMULATOR, Call, FailureKind, FinishReason, Usage
from service.metrics import Metrics


class Ledger:
    """Books attempts in the metrics.

    Args:
        prices: the price table.
        metrics: where the books are kept.
        simulators: names of the providers that are simulators, whose tokens cost nothing.
        bill_simulated: whether to count what simulated answers would have cost; for rehearsals.
    """

    def __init__(
        self,
        prices: Prices,
        metrics: Metrics,
        *,
        simulators: Collection[str] = (),
        bill_simulated: bool = False,
    ) -> None:
        self._prices = prices
        self._metrics = metrics
        self._simulators = frozenset(simulators)
        self._free = frozenset(() if bill_simulated else simulators)
        self._bill_simulated = bill_simulated
        # Providers of any name behind which a simulator has answered before.
        self._seen_simulated: set[str] = set()
        self._estimator = UsageEstimator(prices)

    def expected(self, provider: str, call: Call) -> Bill:
        """Estimates what the next attempt will take."""
        usage = self._estimator.expected(provider, call)
        return Bill(usage, self._cost(provider, call, usage), estimated=True)

    def so_far(self, attempt: Attempt) -> Bill:
        """Returns what an attempt has taken until now."""
        usage, estimated = self._usage(attempt)
        if attempt.simulated:
            self._seen_simulated.add(attempt.provider)
        # An attempt that is cut before its first word does not say who answers: those before it do.
        simulated = attempt.simulated or (attempt.source is None and attempt.provider in self._seen_simulated)
        simulated = simulated and not self._bill_simulated
        cost = 0.0 if simulated else self._cost(attempt.provider, attempt.call, usage)
        return Bill(usage, cost, estimated)

    def enter(self, attempt: Attempt) -> Bill:
        """Books an attempt that has ended, and returns its bill."""
        bill, metrics = self.so_far(attempt), self._metrics
        provider, model = attempt.provider, attempt.call.model
        # Only bills of whole answers teach: one that the cap cut off says nothing about the usual length.
        if not bill.estimated and attempt.reason is FinishReason.STOP and attempt.usage:
            self._estimator.learn(attempt, bill.usage)
        metrics.lvlm_call_duration.labels(provider, model, attempt.outcome).observe(attempt.seconds)
        # An answer that is not streamed has no first token apart from its last.
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
        # A model without a price counts as 0 here; the answer itself says None, and warns.
        metrics.lvlm_cost.labels(payer, model).inc(bill.cost_usd or 0.0)
        return bill

    def price_warning(self, provider: str, model: str, *, refused: bool = False) -> str | None:
        """Returns what an answer of this model must say about its price; None for nothing.

        Args:
            provider: configured name of the provider.
            model: the provider's name for the model.
            refused: whether a model without a price is not called.
        """
        if provider in self._free:
            return None
        return self._prices.warning(model, datetime.date.today(), refused=refused)

    def _cost(self, provider: str, call: Call, usage: Usage) -> float | None:
        return 0.0 if provider in self._free else self._prices.cost(call.model, usage)

    def _usage(self, attempt: Attempt) -> tuple[Usage, bool]:
        """Tokens of an attempt, and whether any of them are estimated."""
        if not attempt.begun:
            return Usage(), False
        reported = self._estimator.reported(attempt)
        if reported is not None:
            return reported, False
        # It failed before any token was read or generated.
        if attempt.failure in _UNBILLED and not attempt.started:
            return Usage(), False
        return self._estimator.taken(attempt), True


_UNBILLED = frozenset(FailureKind) - {
    FailureKind.CONNECTION,
    FailureKind.TRUNCATED,
    FailureKind.SILENT,
}
"""Failures that come before any work unless text or usage has arrived; providers do not bill those."""
