"""The ledger records tokens, US dollars and seconds of every attempt, even if it failed or was cut."""

from __future__ import annotations

import datetime
from collections.abc import Collection

from service.lvlm.bill import Bill
from service.lvlm.cost.prices import Prices
from service.lvlm.cost.usage_estimator import UsageEstimator
from service.lvlm.provider_attempt import Attempt
from service.lvlm.providers.base import SIMULATOR, Call, FailureKind, FinishReason, Usage
from service.metrics import Metrics


class Ledger:
    """Makes the bills of attempts, and records them in the metrics.

    Args:
        prices: price table.
        metrics: metrics that attempts are recorded in.
        simulators: configured names of simulators, whose tokens cost nothing.
        bill_simulated: whether simulated answers are billed as if they were real; for rehearsals.
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
        # Names of providers behind which a simulator has answered, whatever they are called.
        self._seen_simulated: set[str] = set()
        self._estimator = UsageEstimator(prices)

    def expected(self, provider: str, call: Call) -> Bill:
        """Estimates the bill of an attempt at a call before it is made."""
        usage = self._estimator.expected(provider, call)
        return Bill(usage, self._cost(provider, call, usage), estimated=True)

    def bill(self, attempt: Attempt) -> Bill:
        """Returns the bill of an attempt, which may still be running."""
        usage, estimated = self._usage(attempt)
        if attempt.simulated:
            self._seen_simulated.add(attempt.provider)
        # An attempt that was cut before its first event does not show who answers; earlier ones do.
        simulated = attempt.simulated or (attempt.source is None and attempt.provider in self._seen_simulated)
        simulated = simulated and not self._bill_simulated
        cost = 0.0 if simulated else self._cost(attempt.provider, attempt.call, usage)
        return Bill(usage, cost, estimated)

    def record(self, attempt: Attempt) -> Bill:
        """Records an attempt that has ended, once, and returns its bill."""
        bill, metrics = self.bill(attempt), self._metrics
        provider, model = attempt.provider, attempt.call.model
        # Estimates learn from whole answers alone: one that the cap cut off has not the usual length.
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
        # Dollars of a simulated answer were not spent: they are recorded under the simulator's name.
        payer = SIMULATOR if attempt.simulated and provider not in self._simulators else provider
        # A model without a price counts as 0 here; the answer has None for it, and a warning.
        metrics.lvlm_cost.labels(payer, model).inc(bill.cost_usd or 0.0)
        return bill

    def price_warning(self, provider: str, model: str, *, refused: bool = False) -> str | None:
        """Returns the warning that an answer of this model must carry about its price; None for none.

        Args:
            provider: configured name of the provider.
            model: the provider's name for the model.
            refused: whether calls of a model without a price are refused.
        """
        if provider in self._free:
            return None
        return self._prices.warning(model, datetime.date.today(), refused=refused)

    def _cost(self, provider: str, call: Call, usage: Usage) -> float | None:
        return 0.0 if provider in self._free else self._prices.cost(call.model, usage)

    def _usage(self, attempt: Attempt) -> tuple[Usage, bool]:
        """The tokens of an attempt, and whether any of them are estimated."""
        if not attempt.begun:
            return Usage(), False
        reported = self._estimator.reported(attempt)
        if reported is not None:
            return reported, False
        # The attempt failed before any token was read or generated.
        if attempt.failure in _UNBILLED and not attempt.started:
            return Usage(), False
        return self._estimator.estimated(attempt), True


_UNBILLED = frozenset(FailureKind) - {
    FailureKind.CONNECTION,
    FailureKind.TRUNCATED,
    FailureKind.SILENT,
}
"""Failures without any work of the provider, unless text or usage has arrived; providers do not bill them."""
