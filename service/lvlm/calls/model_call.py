"""One call at one model: its attempts, their retries, and the hedge beside a slow one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass

from service.lvlm.attempt import Attempt, Ending
from service.lvlm.bill import Bill
from service.lvlm.calls.call_progress import CallProgress, Step
from service.lvlm.calls.hedging_race import Race
from service.lvlm.calls.model_state import ModelState
from service.lvlm.calls.retries import Retries
from service.lvlm.calls.silence_limit import SilenceLimit, longest_silence
from service.lvlm.calls.time_limits import TimeLimits
from service.lvlm.cost.budgets_and_quotas import Quota, Reservation
from service.lvlm.cost.ledger import Ledger
from service.lvlm.providers.base import Call, FailureKind, Provider, ProviderError
from service.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backend:
    """What all calls of one gateway share.

    Attributes:
        providers: providers by their configured names.
        ledger: books what attempts take.
        quota: grants attempts within the limits per minute and the budgets.
        retries: decides when to try again.
        metrics: counts hedges, retries and calls in flight.
    """

    providers: Mapping[str, Provider]
    ledger: Ledger
    quota: Quota
    retries: Retries
    metrics: Metrics


class ModelCall:
    """Asks one model, as often as its retries, its limits and the time allow.

    Args:
        backend: what it is made with.
        state: what is remembered about the model.
        provider: configured name of the provider.
        call: what to ask.
        limits: how long to wait at this model.
        progress: what the waiting requests see of it.
    """

    def __init__(
        self,
        backend: Backend,
        state: ModelState,
        provider: str,
        call: Call,
        limits: TimeLimits,
        progress: CallProgress,
    ) -> None:
        self._backend = backend
        self._metrics = backend.metrics
        self._state = state
        self._provider = provider
        self._call = call
        self._limits = limits
        self._progress = progress
        self._labels = (provider, call.model)

    async def ask(self) -> Ending:
        """Asks the model and returns how that ended; what was answered is in the progress."""
        concurrency, progress = self._state.concurrency, self._progress
        if self._state.breaker.refuses:  # before queueing for a permit that could not be used
            return Ending.PROVIDER
        # A call in the background leaves half of the permits to requests that are waited for.
        if not progress.awaited and concurrency.in_use >= concurrency.limit / 2:
            return Ending.LIMIT
        progress.step = Step.WAITING
        if not await concurrency.acquire(lambda: self._limits.until):
            return Ending.LIMIT
        try:
            return await self._try()
        finally:
            concurrency.release()

    async def _try(self) -> Ending:
        """Makes attempts until one counts."""
        made = 0
        while True:
            self._progress.step = Step.WAITING
            reservation = await self._reserve(self._limits.until)
            if isinstance(reservation, Ending):
                return reservation
            if not self._state.breaker.admit():  # it opened while the call waited for its turn
                await self._backend.quota.release(reservation)
                return Ending.PROVIDER
            attempt = await self._answered(Attempt(self._provider, self._call), reservation)
            # A hedge is part of the attempt that it was sent beside, and is not counted.
            made += 1
            pause = self._backend.retries.pause(attempt, made)
            if pause is None or _now() + pause >= self._limits.until:
                assert attempt.ending is not None
                return attempt.ending
            assert attempt.failure is not None
            self._metrics.lvlm_retries.labels(*self._labels, attempt.failure.value).inc()
            self._progress.step = Step.PAUSING
            await asyncio.sleep(pause)

    async def _reserve(self, until: float) -> Reservation | Ending:
        expected = self._backend.ledger.expected(self._provider, self._call)
        return await self._backend.quota.reserve(self._provider, self._call.model, expected, until)

    async def _answered(self, first: Attempt, reservation: Reservation) -> Attempt:
        """Makes an attempt, and a hedge if it is slow to begin; returns the one that counts."""
        progress = self._progress
        after = self._state.hedging.after() if progress.awaited and not progress.alone else None
        if after is None:
            progress.begin(first)
            try:
                await self._stream(first)
            finally:  # also when cancelled: the tokens are spent
                self._close_books(first, reservation)
            return first
        async with Race(progress) as race:
            race.enter(first, self._begin(first, reservation))
            if not await race.wait(after):
                await self._hedge(race)
            won = await race.won()
        if won is not first:
            self._metrics.lvlm_hedges.labels(*self._labels, "won").inc()
        return won

    async def _hedge(self, race: Race) -> None:
        """Sends a second attempt if a permit and all that it takes are to be had at once."""
        concurrency = self._state.concurrency
        hedge = Attempt(self._provider, self._call, hedge=True)  # its seconds include the reservation's
        if self._state.breaker.open or not concurrency.try_acquire():
            return
        reservation: Reservation | Ending = Ending.LIMIT
        try:
            reservation = await self._reserve(_now())
        finally:  # also when cancelled
            if isinstance(reservation, Ending):
                concurrency.release()
        if isinstance(reservation, Ending):
            return
        self._state.hedging.spend()
        task = self._begin(hedge, reservation)
        task.add_done_callback(lambda _: concurrency.release())
        race.enter(hedge, task)

    def _begin(self, attempt: Attempt, reservation: Reservation) -> asyncio.Task[None]:
        """Makes an attempt in a task; its books are closed also when it is cancelled before it has run."""
        self._progress.begin(attempt)
        task = asyncio.create_task(self._stream(attempt))
        task.add_done_callback(lambda _: self._close_books(attempt, reservation))
        return task

    def _close_books(self, attempt: Attempt, reservation: Reservation) -> None:
        """Books what an attempt took and settles its reservation; one that was never made took nothing."""
        quota = self._backend.quota
        if attempt.begun:
            try:
                bill = self._enter(attempt)
            except Exception:  # a fault of ours must not keep what was drawn from the budgets
                log.exception("the books of a call to %s/%s broke", *self._labels)
                bill = reservation.expected
            self._progress.settle(attempt, bill)
            quota.settle_soon(reservation, bill)
            return
        self._progress.settle(attempt, Bill())
        quota.settle_soon(reservation, None)
        if attempt.hedge:
            self._state.hedging.refund()

    def _enter(self, attempt: Attempt) -> Bill:
        state = self._state
        state.learn(attempt)
        self._metrics.lvlm_breaker_open.labels(*self._labels).set(state.breaker.open)
        self._metrics.lvlm_places.labels(*self._labels).set(state.concurrency.limit)
        return self._backend.ledger.enter(attempt)

    async def _stream(self, attempt: Attempt) -> None:
        """Streams an attempt's answer from its provider until it ends; a failure is noted, never raised."""
        call, hard, state = attempt.call, self._limits.hard, self._state
        provider = self._backend.providers[self._provider]
        attempt.begun = True
        if attempt.hedge:
            self._metrics.lvlm_hedges.labels(*self._labels, "made").inc()
        self._metrics.lvlm_inflight.inc()
        silence = longest_silence(call, otherwise=hard)
        try:
            async with (
                # The provider has no timeout of its own: this one is moved with every event.
                asyncio.timeout_at(min(hard, _now() + silence, self._limits.first_event)) as limit,
                aclosing(provider.stream(call)) as events,  # type: ignore[type-var]
            ):
                heard = SilenceLimit(limit, hard, silence).heard
                async for event in events:
                    attempt.take(event)
                    self._progress.arrived(attempt)
                    heard(event)
            attempt.end()
            if attempt.failure is None:
                state.outage.works()
            else:
                state.outage.failed("a call to %s/%s was cut off", *self._labels)
        except TimeoutError:
            # Cut by its deadline, or given up because nothing came: the same exception.
            if _now() >= hard:
                attempt.cut()
            else:
                attempt.fail(FailureKind.SILENT)
                state.outage.failed("a call to %s/%s fell silent", *self._labels)
        except ProviderError as error:
            state.outage.failed("a call to %s/%s failed: %s", *self._labels, error)
            attempt.fail(error.kind, error.retry_after)
        except Exception as error:  # our fault or an SDK's: the request still gets the candidate order
            state.faults.failed("a call to %s/%s broke", *self._labels, error=error)
            attempt.fail(FailureKind.SERVER)
        finally:
            self._metrics.lvlm_inflight.dec()


def _now() -> float:
    return asyncio.get_running_loop().time()
