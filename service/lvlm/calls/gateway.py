"""The gateway between the LVLM stage and the providers.

A call never raises what happened at a provider: it ends as a Completion that says how. Each matter has a
class of its own: when to try again (`retries`), when to stop calling a model (`breaker`), how many calls at
once (`places`), how much per minute and for how many dollars (`allowance`), and the books (`accounts`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from service.lvlm.attempt import Ending
from service.lvlm.bill import Bill
from service.lvlm.calls.call_progress import CallProgress
from service.lvlm.calls.concurrency_limit import ConcurrencyLimit
from service.lvlm.calls.hedging import Hedging
from service.lvlm.calls.model_call import Backend, ModelCall
from service.lvlm.calls.model_state import ModelState
from service.lvlm.calls.retries import Retries
from service.lvlm.calls.time_limits import TimeLimits
from service.lvlm.completion import Completion
from service.lvlm.cost.budgets_and_quotas import Quota
from service.lvlm.cost.ledger import Ledger
from service.lvlm.providers.base import Call, Provider
from service.metrics import Metrics
from service.outages import Outage

log = logging.getLogger(__name__)


class Gateway:
    """Makes calls.

    Args:
        providers: providers by their configured names.
        ledger: books what attempts take.
        quota: grants attempts within the limits per minute and the budgets.
        metrics: counts hedges, retries and calls in flight.
        concurrency: calls under way at one model, at most; others wait for a permit until their deadline.
        adaptive: whether to find a smaller limit when the provider says that it is too much.
        retries: how often to try again.
        hedge: share of the calls that may be made twice when the first attempt is slow to begin, 0 to 1.
        clock: monotonic seconds for the log, which says how long a provider has been failing.
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
            call: what to ask.
            deadline: seconds from now at which the call is cut; what has arrived by then is returned.
            alternatives: providers and models to ask in turn if the first one cannot answer. While there is
                another one, half of the time is spent on waiting for a first event.
            progress: where to watch it; its ``until`` bounds waiting and trying again, but not the attempt
                under way. A call that is not awaited takes no permit that others may need.
        """
        clock = asyncio.get_running_loop().time
        hard = clock() + deadline
        progress = progress or CallProgress(hard)
        # A request without time must not take a permit or a reservation.
        if deadline <= 0:
            return self.completion(progress, Ending.DEADLINE)
        ending = Ending.DEADLINE
        asked = ((provider, call.model), *alternatives)
        for number, (name, model) in enumerate(asked, start=1):
            limits = TimeLimits(hard, progress, last=number == len(asked))
            state, asking = self.state(name, model), replace(call, model=model)
            ending = await ModelCall(self._backend, state, name, asking, limits, progress).ask()
            # A spent budget is spent for the other models too, and after a deadline there is no time for one.
            if ending not in (Ending.PROVIDER, Ending.LIMIT) or clock() >= min(hard, progress.until):
                break
        return self.completion(progress, ending)

    def completion(self, progress: CallProgress, ending: Ending) -> Completion:
        """Returns what has come of a call, now that it ends or that a request waits for it no longer."""
        attempt, bill = progress.attempt, progress.settled
        if attempt is None:
            return Completion(ending)
        # Read while attempts are under way: what they have taken so far is estimated.
        for running in progress.running:
            bill += self._backend.ledger.so_far(running)
        # The beginning of an answer that failed is not passed on: another attempt may say something else.
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
        """Returns what an answer of this model must say about its price; None for nothing."""
        refused = self._backend.quota.refuses_unpriced(provider)
        return self._backend.ledger.price_warning(provider, model, refused=refused)

    def expected(self, provider: str, call: Call) -> Bill:
        """Estimates what one attempt will take, before it is made."""
        return self._backend.ledger.expected(provider, call)

    def state(self, provider: str, model: str) -> ModelState:
        """Returns what is remembered about one model of one provider."""
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
        """Finishes the books and closes all providers."""
        await self._backend.quota.close()
        for provider in self._backend.providers.values():
            await provider.close()
