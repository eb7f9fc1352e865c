"""Makes a call at one model: its attempts, their retries, and the hedge beside a slow attempt.

Permits: the call holds one for all of its attempts, and a hedge one of its own. Reservations: every attempt
has one, which is settled or released exactly once, also when the call is cancelled at any point.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass

from service.lvlm.bill import Bill
from service.lvlm.calls.call_progress import CallProgress, Step
from service.lvlm.calls.hedging_race import Race
from service.lvlm.calls.model_state import ModelState
from service.lvlm.calls.retries import Retries
from service.lvlm.calls.silence_limit import SilenceLimit, longest_silence
from service.lvlm.calls.time_limits import TimeLimits
from service.lvlm.cost.budgets_and_quotas import Quota, Reservation
from service.lvlm.cost.ledger import Ledger
from service.lvlm.provider_attempt import Attempt, Ending
from service.lvlm.providers.base import Call, FailureKind, Provider, ProviderError
from service.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backend:
    """The parts that all calls of one gateway share.

    Attributes:
        providers: providers by their configured names.
        ledger: ledger that records what attempts take.
        quota: quota that reserves requests, tokens and dollars for attempts.
        retries: policy of retries.
        metrics: counters of hedges, retries and attempts in flight.
    """

    providers: Mapping[str, Provider]
    ledger: Ledger
    quota: Quota
    retries: Retries
    metrics: Metrics


class ModelCall:
    """Makes attempts at one model, as often as retries, limits and time allow.

    Args:
        backend: parts that all calls of the gateway share.
        state: state of the model.
        provider: configured name of the provider.
        call: call to make.
        limits: time limits at this model.
        progress: progress that the waiting requests see.
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
        """Asks the model and returns how that ended; the answer is in the progress."""
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
            return await self._attempts()
        finally:
            concurrency.release()

    async def _attempts(self) -> Ending:
        """Makes attempts until one succeeds or no other makes sense."""
        made = 0
        while True:
            self._progress.step = Step.WAITING
            reservation = await self._reserve(self._limits.until)
            if isinstance(reservation, Ending):
                return reservation
            # Asked last, since an admitted attempt must be made: the breaker may wait for it as its probe.
            if not self._state.breaker.admit():
                await self._backend.quota.release(reservation)
                return Ending.PROVIDER
            attempt = await self._attempt(Attempt(self._provider, self._call), reservation)
            # A hedge belongs to the attempt that it was sent beside, and is not counted.
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
        """Reserves what an attempt is expected to take; returns the call's ending if the quota refuses."""
        expected = self._backend.ledger.expected(self._provider, self._call)
        return await self._backend.quota.reserve(self._provider, self._call.model, expected, until)

    async def _attempt(self, first: Attempt, reservation: Reservation) -> Attempt:
        """Makes an attempt, and a hedge if it is slow to begin; returns the one that counts."""
        progress = self._progress
        after = self._state.hedging.after() if progress.awaited and not progress.measured else None
        if after is None:
            progress.begin(first)
            try:
                await self._stream(first)
            finally:  # also when cancelled: the provider bills the tokens so far
                self._settle(first, reservation)
            return first
        async with Race(progress) as race:
            race.add(first, self._start(first, reservation))
            if not await race.wait(after):
                await self._hedge(race)
            winner = await race.winner()
        if winner is not first:
            self._metrics.lvlm_hedges.labels(*self._labels, "won").inc()
        return winner

    async def _hedge(self, race: Race) -> None:
        """Sends a second attempt, if a permit and a reservation are to be had at once."""
        concurrency = self._state.concurrency
        hedge = Attempt(self._provider, self._call, hedge=True)  # its time begins before its reservation
        if self._state.breaker.open or not concurrency.try_acquire():
            return
        reservation: Reservation | Ending = Ending.LIMIT
        try:
            reservation = await self._reserve(_now())
        finally:  # also when cancelled
            if isinstance(reservation, Ending):  # refused, or cancelled while waiting for it
                concurrency.release()
        if isinstance(reservation, Ending):
            return
        self._state.hedging.spend()
        task = self._start(hedge, reservation)
        task.add_done_callback(lambda _: concurrency.release())
        race.add(hedge, task)

    def _start(self, attempt: Attempt, reservation: Reservation) -> asyncio.Task[None]:
        """Starts an attempt in a task; a callback settles it, even if the task is cancelled before that."""
        self._progress.begin(attempt)
        task = asyncio.create_task(self._stream(attempt))
        task.add_done_callback(lambda _: self._settle(attempt, reservation))
        return task

    def _settle(self, attempt: Attempt, reservation: Reservation) -> None:
        """Records an ended attempt and settles its reservation; releases that of one that never began."""
        quota = self._backend.quota
        if attempt.begun:
            try:
                bill = self._record(attempt)
            except Exception:  # a bug of ours must not leave the reservation open for ever
                log.exception("the bill of a call to %s/%s cannot be made", *self._labels)
                bill = reservation.expected
            self._progress.settle(attempt, bill)
            quota.settle_soon(reservation, bill)
            return
        self._progress.settle(attempt, Bill())
        quota.settle_soon(reservation, None)
        if attempt.hedge:
            self._state.hedging.refund()

    def _record(self, attempt: Attempt) -> Bill:
        """Takes an attempt into account for the model's later calls, and returns its bill."""
        state = self._state
        state.learn(attempt)
        self._metrics.lvlm_breaker_open.labels(*self._labels).set(state.breaker.open)
        self._metrics.lvlm_places.labels(*self._labels).set(state.concurrency.limit)
        return self._backend.ledger.record(attempt)

    async def _stream(self, attempt: Attempt) -> None:
        """Streams an attempt's answer from its provider until it ends; a failure is noted, never raised."""
        call, call_end, state = attempt.call, self._limits.call_end, self._state
        provider = self._backend.providers[self._provider]
        attempt.begun = True
        if attempt.hedge:
            self._metrics.lvlm_hedges.labels(*self._labels, "made").inc()
        self._metrics.lvlm_inflight.inc()
        silence = longest_silence(call, otherwise=call_end)
        try:
            async with (
                # The provider has no timeout of its own: this one is moved with every event.
                asyncio.timeout_at(min(call_end, _now() + silence, self._limits.first_event)) as limit,
                aclosing(provider.stream(call)) as events,  # type: ignore[type-var]
            ):
                restart = SilenceLimit(limit, call_end, silence).restart
                async for event in events:
                    attempt.take(event)
                    self._progress.notify(attempt)
                    restart(event)
            attempt.end()
            if attempt.failure is None:
                state.outage.works()
            else:
                state.outage.failed("a call to %s/%s was cut off", *self._labels)
        except TimeoutError:
            # Either the deadline or the silence limit: both raise the same exception.
            if _now() >= call_end:
                attempt.cut()
            else:
                attempt.fail(FailureKind.SILENT)
                state.outage.failed("a call to %s/%s fell silent", *self._labels)
        except ProviderError as error:
            state.outage.failed("a call to %s/%s failed: %s", *self._labels, error)
            attempt.fail(error.kind, error.retry_after)
        except Exception as error:  # a bug of ours or of an SDK: the request falls back on the candidates
            state.faults.failed("a call to %s/%s broke", *self._labels, error=error)
            attempt.fail(FailureKind.SERVER)
        finally:
            self._metrics.lvlm_inflight.dec()


def _now() -> float:
    return asyncio.get_running_loop().time()
