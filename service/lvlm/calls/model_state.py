"""What the gateway remembers about one model of one provider, from call to call."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.lvlm.attempt import Attempt
from service.lvlm.calls.circuit_breaker import CircuitBreaker
from service.lvlm.calls.concurrency_limit import ConcurrencyLimit
from service.lvlm.calls.hedging import Hedging
from service.outages import Outage


@dataclass(frozen=True, slots=True)
class ModelState:
    """The limits of one model, which learn from its attempts, and the log's memory of its failures.

    Attributes:
        outage: logs when the provider begins and ends to fail.
        faults: logs failures of the adapter or of its SDK, which are ours to mend.
    """

    concurrency: ConcurrencyLimit
    hedging: Hedging
    outage: Outage
    faults: Outage
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)

    def learn(self, attempt: Attempt) -> None:
        """Takes an attempt that ended into account."""
        self.breaker.record(attempt)
        self.concurrency.learn(attempt)
        self.hedging.learn(attempt)
