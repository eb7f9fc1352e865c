"""Between the stage and the providers: everything that stands between wanting an answer and having it.

A call never raises what happened at a provider: it ends as a Completion that says how. Each matter has a
class of its own: when to try again (`retries`), whom to leave alone (`breaker`), how many at once (`places`),
how much per minute and for how many dollars (`allowance`), and the books (`accounts`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from service.lvlm.accounts import Accounts, Bill
from service.lvlm.allowance import Allowance, Grant
from service.lvlm.attempt import Attempt, Ending
from service.lvlm.breaker import Breaker
from service.lvlm.hedges import Hedges
from service.lvlm.places import Places
from service.lvlm.progress import Progress, Step
from service.lvlm.providers.base import (
    Call,
    FailureKind,
    FinishReason,
    Provider,
    ProviderError,
    Usage,
)
from service.lvlm.race import Race
from service.lvlm.retries import Retries
from service.lvlm.silence import SilenceLimit
from service.metrics import Metrics
from service.outages import Outage

__all__ = ["Completion", "Ending", "Gateway"]

log = logging.getLogger(__name__)

SILENCE = 30.0
"""Seconds without an event after which a stream is given up."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What came of one call.

    Attributes:
        text: everything received, also when the call was cut.
        failure: the kind of failure when the ending is ``provider``; None if the breaker was open.
        usage: of all attempts.
        cost_usd: of all attempts; None for a model without a known price.
        estimated: some of the usage was not reported.
        simulated: the simulator answered.
        blind: the server takes no pictures and was sent none.
        provider: who answered, or was asked last.
        model: of that provider.
    """

    ending: Ending
    text: str = ""
    reason: FinishReason | None = None
    failure: FailureKind | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = 0.0
    estimated: bool = False
    simulated: bool = False
    blind: bool = False
    provider: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class _Line:
    """What is remembered about one model of one provider."""

    places: Places
    hedges: Hedges
    outage: Outage
    faults: Outage
    breaker: Breaker = field(default_factory=Breaker)


class _Patience:
    """How long a call waits at one model.

    Args:
        hard: the event loop's time at which it is cut.
        progress: knows until when somebody waits.
        last: nobody else can be asked after this model.
    """

    def __init__(self, hard: float, progress: Progress, *, last: bool) -> None:
        self.hard = hard
        self._progress = progress
        self._last = last
        self._began = _now()

    @property
    def until(self) -> float:
        """When to stop waiting for a place or a turn, and trying again: half-way if another can be asked."""
        end = min(self.hard, self._progress.until)
        return end if self._last else (self._began + end) / 2

    @property
    def first_word(self) -> float:
        """When to give up an attempt that has brought nothing."""
        return self.until if self._progress.awaited and not self._last else self.hard


class Gateway:
    """Makes calls.

    Args:
        providers: by name.
        concurrency: calls under way at one model; others wait for a place until their deadline.
        adaptive: find a smaller limit when the provider says that it is too much.
        retries: how often to try again.
        hedge: share of the calls that may be made twice when the first one is slow to begin.
        clock: of the log, which says how long a provider fails.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        accounts: Accounts,
        allowance: Allowance,
        metrics: Metrics,
        *,
        concurrency: int,
        adaptive: bool = True,
        retries: Retries | None = None,
        hedge: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._providers = dict(providers)
        self._accounts = accounts
        self._allowance = allowance
        self._metrics = metrics
        self._concurrency = concurrency
        self._adaptive = adaptive
        self._hedge = hedge
        self._clock = clock
        self._retries = retries or Retries()
        self._lines: dict[tuple[str, str], _Line] = {}
        self._settling: set[asyncio.Task[None]] = set()

    async def call(
        self,
        provider: str,
        call: Call,
        deadline: float,
        *,
        alternatives: Sequence[tuple[str, str]] = (),
        progress: Progress | None = None,
    ) -> Completion:
        """Make one call.

        Args:
            provider: a configured name.
            call: what to ask.
            deadline: seconds from now at which the call is cut; what has arrived by then is returned.
            alternatives: providers and models to ask in turn if the first one cannot answer. While there is
                another one, half of the time is spent on waiting for a first word.
            progress: where to watch it; its ``until`` bounds waiting and trying again, but not the attempt
                under way. A call that is not awaited takes no place that others may need.
        """
        hard = asyncio.get_running_loop().time() + deadline
        progress = progress or Progress(hard)
        if deadline <= 0:
            return self.completion(progress, Ending.DEADLINE)
        ending = Ending.DEADLINE
        asked = ((provider, call.model), *alternatives)
        for place, (name, model) in enumerate(asked, start=1):
            patience = _Patience(hard, progress, last=place == len(asked))
            ending = await self._ask(name, replace(call, model=model), patience, progress)
            if ending not in (Ending.PROVIDER, Ending.LIMIT) or _now() >= min(hard, progress.until):
                break
        return self.completion(progress, ending)

    def completion(self, progress: Progress, ending: Ending) -> Completion:
        """What has come of a call, now that it ends or that somebody waits no longer."""
        attempt, bill = progress.attempt, progress.settled
        if attempt is None:
            return Completion(ending)
        for running in progress.running:
            bill += self._accounts.so_far(running)
        asked = ending in (Ending.FINISHED, Ending.DEADLINE)
        return Completion(
            ending,
            text=attempt.text if asked else "",
            reason=attempt.reason if asked else None,
            failure=attempt.failure,
            usage=bill.usage,
            cost_usd=bill.cost_usd,
            estimated=bill.estimated,
            simulated=attempt.simulated,
            blind=attempt.blind,
            provider=attempt.provider,
            model=attempt.call.model,
        )

    def warning(self, provider: str, model: str) -> str | None:
        """What an answer of this model must say about its price."""
        refused = self._allowance.refuses_unpriced(provider)
        return self._accounts.warning(provider, model, refused=refused)

    def expected(self, provider: str, call: Call) -> Bill:
        """What one attempt will take, before it is made."""
        return self._accounts.expected(provider, call)

    async def close(self) -> None:
        """Finish the books and close all providers."""
        await asyncio.gather(*self._settling)
        for provider in self._providers.values():
            await provider.close()

    async def _ask(self, provider: str, call: Call, patience: _Patience, progress: Progress) -> Ending:
        """Ask one model, as often as makes sense."""
        line = self._line(provider, call.model)
        if line.breaker.refuses:  # before standing in line for nothing
            return Ending.PROVIDER
        if not progress.awaited and line.places.taken >= line.places.limit / 2:
            return Ending.LIMIT
        progress.step = Step.WAITING
        if not await line.places.acquire(lambda: patience.until):
            return Ending.LIMIT
        try:
            return await self._try(line, provider, call, patience, progress)
        finally:
            line.places.release()

    async def _try(
        self, line: _Line, provider: str, call: Call, patience: _Patience, progress: Progress
    ) -> Ending:
        made = 0
        while True:
            progress.step = Step.WAITING
            expected = self._accounts.expected(provider, call)
            grant = await self._allowance.grant(provider, call.model, expected, patience.until)
            if isinstance(grant, Ending):
                return grant
            if not line.breaker.admit():
                await self._allowance.give_back(grant)
                return Ending.PROVIDER
            attempt = await self._answered(line, Attempt(provider, call), grant, patience, progress)
            made += 1
            pause = self._retries.pause(attempt, made)
            if pause is None or _now() + pause >= patience.until:
                assert attempt.ending is not None
                return attempt.ending
            assert attempt.failure is not None
            self._metrics.lvlm_retries.labels(provider, call.model, attempt.failure.value).inc()
            progress.step = Step.PAUSING
            await asyncio.sleep(pause)

    async def _answered(
        self, line: _Line, first: Attempt, grant: Grant, patience: _Patience, progress: Progress
    ) -> Attempt:
        """Make an attempt, and a second one beside it if it is slow to begin; return the one that counts."""
        after = line.hedges.after() if progress.awaited and not progress.alone else None
        if after is None:
            progress.begin(first)
            try:
                await self._attempt(first, patience, progress)
            finally:  # also when cancelled: the tokens are spent
                self._close_books(line, first, grant, progress)
            return first
        async with Race(progress) as race:
            race.enter(first, self._begin(line, first, grant, patience, progress))
            if not await race.wait(after):
                second = Attempt(first.provider, first.call, second=True)
                spare = await self._spare(line, second)
                if spare:
                    task = self._begin(line, second, spare, patience, progress)
                    task.add_done_callback(lambda _: line.places.release())
                    race.enter(second, task)
            won = await race.won()
        if won is not first:
            self._metrics.lvlm_hedges.labels(first.provider, first.call.model, "won").inc()
        return won

    async def _spare(self, line: _Line, attempt: Attempt) -> Grant | None:
        """Leave for a second attempt, with a place, if all that it takes is to be had at once."""
        if line.breaker.open or not line.places.take():
            return None
        provider, call = attempt.provider, attempt.call
        grant: Grant | Ending = Ending.LIMIT
        try:
            expected = self._accounts.expected(provider, call)
            grant = await self._allowance.grant(provider, call.model, expected, _now())
        finally:
            if isinstance(grant, Ending):
                line.places.release()
        if isinstance(grant, Ending):
            return None
        line.hedges.spend()
        return grant

    def _begin(
        self, line: _Line, attempt: Attempt, grant: Grant, patience: _Patience, progress: Progress
    ) -> asyncio.Task[None]:
        """Make an attempt in a task; its books are closed also when it is cancelled before it has run."""
        progress.begin(attempt)
        task = asyncio.create_task(self._attempt(attempt, patience, progress))
        task.add_done_callback(lambda _: self._close_books(line, attempt, grant, progress))
        return task

    def _close_books(self, line: _Line, attempt: Attempt, grant: Grant, progress: Progress) -> None:
        """Enter what an attempt took and correct the meters; one that was never made took nothing."""
        if attempt.begun:
            try:
                bill = self._enter(line, attempt)
            except Exception:  # a fault of ours must not keep what was drawn from the budgets
                log.exception("the books of a call to %s/%s broke", attempt.provider, attempt.call.model)
                bill = grant.expected
            progress.settle(attempt, bill)
            self._settle(grant, bill)
            return
        progress.settle(attempt, Bill())
        self._settle(grant, None)
        if attempt.second:
            line.hedges.refund()

    async def _attempt(self, attempt: Attempt, patience: _Patience, progress: Progress) -> None:
        provider, call, hard = self._providers[attempt.provider], attempt.call, patience.hard
        attempt.begun = True
        if attempt.second:
            self._metrics.lvlm_hedges.labels(attempt.provider, call.model, "made").inc()
        self._metrics.lvlm_inflight.inc()
        silence = SILENCE if call.stream else hard
        line = self._line(attempt.provider, call.model)
        try:
            async with (
                asyncio.timeout_at(min(hard, _now() + silence, patience.first_word)) as limit,
                aclosing(provider.stream(call)) as events,  # type: ignore[type-var]
            ):
                heard = SilenceLimit(limit, hard, silence).heard
                async for event in events:
                    attempt.take(event)
                    progress.arrived(attempt)
                    heard(event)
            attempt.end()
            if attempt.failure is None:
                line.outage.works()
            else:
                line.outage.failed("a call to %s/%s was cut off", attempt.provider, call.model)
        except TimeoutError:
            if _now() >= hard:
                attempt.cut()
            else:
                attempt.fail(FailureKind.SILENT)
                line.outage.failed("a call to %s/%s fell silent", attempt.provider, call.model)
        except ProviderError as error:
            line.outage.failed("a call to %s/%s failed: %s", attempt.provider, call.model, error)
            attempt.fail(error.kind, error.retry_after)
        except Exception as error:  # our fault or an SDK's: the request still gets the candidate order
            line.faults.failed("a call to %s/%s broke", attempt.provider, call.model, error=error)
            attempt.fail(FailureKind.SERVER)
        finally:
            self._metrics.lvlm_inflight.dec()

    def _settle(self, grant: Grant, bill: Bill | None) -> None:
        """Correct the meters while the answer is on its way; without a bill, all that was drawn goes back."""
        if grant.meters:
            task = asyncio.create_task(
                self._allowance.settle(grant, bill) if bill else self._allowance.give_back(grant)
            )
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)

    def _enter(self, line: _Line, attempt: Attempt) -> Bill:
        line.breaker.record(attempt)
        line.places.learn(attempt)
        line.hedges.learn(attempt)
        labels = (attempt.provider, attempt.call.model)
        self._metrics.lvlm_breaker_open.labels(*labels).set(line.breaker.open)
        self._metrics.lvlm_places.labels(*labels).set(line.places.limit)
        return self._accounts.enter(attempt)

    def _line(self, provider: str, model: str) -> _Line:
        line = self._lines.get((provider, model))
        if line is None:
            line = _Line(
                Places(self._concurrency, adaptive=self._adaptive),
                Hedges(self._hedge),
                outage=Outage(f"{provider}/{model}", log, clock=self._clock),
                faults=Outage(f"{provider}/{model}", log, level=logging.ERROR, clock=self._clock),
            )
            self._lines[provider, model] = line
        return line


def _now() -> float:
    return asyncio.get_running_loop().time()
