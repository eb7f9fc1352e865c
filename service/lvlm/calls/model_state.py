"""Holds what the gateway has learned about one model of one provider, from call to call."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.lvlm.calls.circuit_breaker import CircuitBreaker
from service.lvlm.calls.concurrency_limit import ConcurrencyLimit
from service.lvlm.calls.hedging import Hedging
from service.lvlm.provider_attempt import Attempt
from service.outages import Outage


@dataclass(frozen=True, slots=True)
class ModelState:
    """The limits of one model, which adapt to its attempts, and its outages for the log.

    Attributes:
        concurrency: limit of simultaneous attempts.
        hedging: decision when to send a second attempt.
        outage: log of when the provider begins and ends to fail.
        faults: log of failures of the adapter or its SDK, which are bugs of ours.
        breaker: circuit breaker.
    """

    concurrency: ConcurrencyLimit
    hedging: Hedging
    outage: Outage
    faults: Outage
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)

    def learn(self, attempt: Attempt) -> None:
        """Takes an attempt that has ended into account."""
        self.breaker.record(attempt)
        self.concurrency.learn(attempt)
        self.hedging.learn(attempt)
