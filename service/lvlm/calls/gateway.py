"""The gateway makes calls to providers for the LVLM stage and for captioning.

In: a call, a deadline and alternatives. Out: a Completion, for whatever happens at a provider; a gateway
raises no ProviderError. Each decision is in a module of its own: when to try again (``retries``), when to
send a second attempt (``hedging``), when to stop calling a model (``circuit_breaker``), how many attempts at
once (``concurrency_limit``), how many per minute and for how many dollars (``cost.budgets_and_quotas``), and
what attempts took (``cost.ledger``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from service.lvlm.bill import Bill
from service.lvlm.call_completion import Completion
from service.lvlm.calls.call_progress import CallProgress
from service.lvlm.calls.concurrency_limit import ConcurrencyLimit
from service.lvlm.calls.hedging import Hedging
from service.lvlm.calls.model_call import Backend, ModelCall
from service.lvlm.calls.model_state import ModelState
from service.lvlm.calls.retries import Retries
from service.lvlm.calls.time_limits import TimeLimits
from service.lvlm.cost.budgets_and_quotas import Quota
from service.lvlm.cost.ledger import Ledger
from service.lvlm.provider_attempt import Ending
from service.lvlm.providers.base import Call, Provider
from service.metrics import Metrics
from service.outages import Outage

log = logging.getLogger(__name__)


class Gateway:
    """Makes calls to providers.

    Args:
        providers: providers by their configured names.
        ledger: ledger that records what attempts take.
        quota: quota that reserves requests, tokens and dollars for attempts.
        metrics: counters of hedges, retries and attempts in flight.
        concurrency: simultaneous attempts at one model at most, at least 1; others wait for a permit.
        adaptive: whether the concurrency limit shrinks when a provider refuses attempts as too many.
        retries: policy of retries; None for the default.
        hedge: hedges per attempt at most, from 0 (none) to 1.
        clock: clock in monotonic seconds for the log, which says for how long a provider has been failing.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        ledger: Ledger,
        quota: Quota,
        metrics: Metrics,
        *,
        concurrency: int,
        adaptive: bool = True,
        retries: Retries | None = None,
        hedge: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = Backend(dict(providers), ledger, quota, retries or Retries(), metrics)
        self._concurrency = concurrency
        self._adaptive = adaptive
        self._hedge = hedge
        self._clock = clock
        self._states: dict[tuple[str, str], ModelState] = {}

    async def call(
        self,
        provider: str,
        call: Call,
        deadline: float,
        *,
        alternatives: Sequence[tuple[str, str]] = (),
        progress: CallProgress | None = None,
    ) -> Completion:
        """Makes one call.

        Args:
            provider: configured name of the provider.
            call: call to make.
            deadline: seconds from now at which the call is cut; the text that has arrived by then counts.
            alternatives: providers and models to ask in turn if the first one cannot answer. While another
                one is left, at most half of the remaining time is spent on waiting for a first event.
            progress: record of the call that others watch. Its ``until`` bounds waiting and trying again, but
                not a running attempt. A call that is not awaited takes no permit that others may need.
        """
        clock = asyncio.get_running_loop().time
        call_end = clock() + deadline
        progress = progress or CallProgress(call_end)
        # A request without time must not take a permit or a reservation.
        if deadline <= 0:
            return self.completion(progress, Ending.DEADLINE)
        ending = Ending.DEADLINE
        asked = ((provider, call.model), *alternatives)
        for number, (name, model) in enumerate(asked, start=1):
            limits = TimeLimits(call_end, progress, last=number == len(asked))
            state, asking = self.state(name, model), replace(call, model=model)
            ending = await ModelCall(self._backend, state, name, asking, limits, progress).ask()
            # A budget holds for all models together, and after a deadline no time is left for another one.
            if ending not in (Ending.PROVIDER, Ending.LIMIT) or clock() >= min(call_end, progress.until):
                break
        return self.completion(progress, ending)

    def completion(self, progress: CallProgress, ending: Ending) -> Completion:
        """Returns the completion of a call that ends, or of one that a request no longer waits for.

        Args:
            progress: progress of the call.
            ending: how the call ends, for this request.
        """
        attempt, bill = progress.attempt, progress.settled
        if attempt is None:
            return Completion(ending)
        # A request may leave while attempts run: what they have taken so far is estimated.
        for running in progress.running:
            bill += self._backend.ledger.bill(running)
        # The beginning of a failed answer is not passed on: the next attempt may answer otherwise.
        asked = ending in (Ending.FINISHED, Ending.DEADLINE)
        return Completion(
            ending,
            text=attempt.text if asked else "",
            reason=attempt.reason if asked else None,
            failure=attempt.failure,
            responder=attempt.responder,
            bill=bill,
        )

    def price_warning(self, provider: str, model: str) -> str | None:
        """Returns the warning that an answer of this model must carry about its price; None for none."""
        refused = self._backend.quota.refuses_unpriced(provider)
        return self._backend.ledger.price_warning(provider, model, refused=refused)

    def expected(self, provider: str, call: Call) -> Bill:
        """Estimates the bill of one attempt before it is made."""
        return self._backend.ledger.expected(provider, call)

    def state(self, provider: str, model: str) -> ModelState:
        """Returns the state of one model of one provider, made at its first call."""
        state = self._states.get((provider, model))
        if state is None:
            name = f"{provider}/{model}"
            state = self._states[provider, model] = ModelState(
                ConcurrencyLimit(self._concurrency, adaptive=self._adaptive),
                Hedging(self._hedge),
                outage=Outage(name, log, clock=self._clock),
                faults=Outage(name, log, level=logging.ERROR, clock=self._clock),
            )
        return state

    async def close(self) -> None:
        """Waits until all reservations are settled, and closes the providers."""
        await self._backend.quota.close()
        for provider in self._backend.providers.values():
            await provider.close()
