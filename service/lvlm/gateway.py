"""Between the stage and the providers: the deadline, the limit of calls, the account of every attempt.

A call never raises what happened at the provider: it ends as a Completion that says how. This is the place
for whatever stands between wanting a call and making it.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from collections.abc import Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum

from service.lvlm.pricing import Prices
from service.lvlm.providers.base import (
    Call,
    Event,
    FailureKind,
    Finish,
    FinishReason,
    Provider,
    ProviderError,
    TextDelta,
    Usage,
)
from service.lvlm.tokens import estimate_images, estimate_input, estimate_text
from service.metrics import Metrics

log = logging.getLogger(__name__)


class Ending(StrEnum):
    """How a call ended."""

    FINISHED = "finished"
    DEADLINE = "deadline"
    PROVIDER = "provider"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class Completion:
    """What came of one call.

    Attributes:
        text: everything received, also when the call was cut.
        failure: the kind of failure when the ending is ``provider``.
        usage: of all attempts.
        cost_usd: of all attempts; None for a model without a known price.
        estimated: some of the usage was not reported.
        simulated: the simulator answered.
    """

    ending: Ending
    text: str = ""
    reason: FinishReason | None = None
    failure: FailureKind | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = 0.0
    estimated: bool = False
    simulated: bool = False


class Gateway:
    """Makes calls.

    Args:
        providers: by name.
        simulators: names of providers whose tokens cost nothing.
        concurrency: calls under way at once; others wait for a place until their deadline.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        prices: Prices,
        metrics: Metrics,
        *,
        concurrency: int,
        simulators: Collection[str] = (),
    ) -> None:
        self._providers = dict(providers)
        self._prices = prices
        self._metrics = metrics
        self._simulators = frozenset(simulators)
        self._places = asyncio.Semaphore(concurrency)

    async def call(self, provider: str, call: Call, deadline: float) -> Completion:
        """Make one call.

        Args:
            provider: a configured name.
            call: what to ask.
            deadline: seconds from now at which the call is cut; what has arrived by then is returned.
        """
        until = asyncio.get_running_loop().time() + deadline
        if deadline <= 0:
            return Completion(Ending.DEADLINE)
        try:
            async with asyncio.timeout_at(until):
                await self._places.acquire()
        except TimeoutError:
            return Completion(Ending.LIMIT)
        try:
            return await self._attempt(self._providers[provider], call, until)
        finally:
            self._places.release()

    def warning(self, provider: str, model: str) -> str | None:
        """What an answer of this model must say about its price."""
        return None if provider in self._simulators else self._prices.warning(model, datetime.date.today())

    async def close(self) -> None:
        """Close all providers."""
        for provider in self._providers.values():
            await provider.close()

    async def _attempt(self, provider: Provider, call: Call, until: float) -> Completion:
        attempt = _Attempt(call)
        self._metrics.lvlm_inflight.inc()
        try:
            async with asyncio.timeout_at(until), aclosing(provider.stream(call)) as events:  # type: ignore[type-var]
                async for event in events:
                    attempt.take(event)
            attempt.end()
        except TimeoutError:
            attempt.ending = Ending.DEADLINE
        except ProviderError as error:
            log.warning("a call to %s/%s failed: %s", provider.name, call.model, error)
            attempt.fail(error.kind)
        except Exception:  # a fault of ours or of an SDK: the request at hand still gets the candidate order
            log.exception("a call to %s/%s broke", provider.name, call.model)
            attempt.fail(FailureKind.SERVER)
        finally:  # also when the caller was cancelled: the tokens are spent
            self._metrics.lvlm_inflight.dec()
            completion = self._account(provider.name, attempt)
        return completion

    def _account(self, provider: str, attempt: _Attempt) -> Completion:
        metrics, model = self._metrics, attempt.call.model
        usage, estimated = self._usage(attempt)
        cost = 0.0 if attempt.simulated or provider in self._simulators else self._prices.cost(model, usage)
        metrics.lvlm_call_duration.labels(provider, model, attempt.outcome).observe(attempt.seconds)
        if attempt.first_text is not None and attempt.call.stream:
            metrics.lvlm_time_to_first_token.labels(provider, model).observe(attempt.first_text)
        metrics.lvlm_tokens.labels(provider, model, "input").inc(usage.input_tokens)
        metrics.lvlm_tokens.labels(provider, model, "output").inc(usage.output_tokens)
        metrics.lvlm_cost.labels(provider, model).inc(cost or 0.0)
        return Completion(
            ending=attempt.ending or Ending.DEADLINE,
            text=attempt.text,
            reason=attempt.finish.reason if attempt.finish else None,
            failure=attempt.failure,
            usage=usage,
            cost_usd=cost,
            estimated=estimated,
            simulated=attempt.simulated or provider in self._simulators,
        )

    def _usage(self, attempt: _Attempt) -> tuple[Usage, bool]:
        """Tokens of an attempt, and whether any of them are estimated."""
        if attempt.finish and attempt.usage:
            return attempt.usage, False
        if attempt.failure in _UNBILLED and not attempt.started:
            return Usage(), False
        known = attempt.usage or Usage()
        rule = self._prices.images(attempt.call.model)
        prompt = attempt.call.prompt
        return Usage(
            input_tokens=known.input_tokens or estimate_input(prompt, rule),
            output_tokens=max(known.output_tokens, estimate_text(attempt.text)),
            cached_input_tokens=known.cached_input_tokens,
            cache_write_tokens=known.cache_write_tokens,
            image_tokens=known.image_tokens or estimate_images(prompt, rule),
        ), True


_UNBILLED = frozenset(FailureKind) - {FailureKind.TRUNCATED, FailureKind.TIMEOUT}
"""Failures that come before any work unless text or usage has arrived; nobody bills those."""


class _Attempt:
    """What is known so far about one attempt."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.ending: Ending | None = None
        self.failure: FailureKind | None = None
        self.finish: Finish | None = None
        self.usage: Usage | None = None
        self.first_text: float | None = None
        self._pieces: list[str] = []
        self._began = time.perf_counter()

    def take(self, event: Event) -> None:
        match event:
            case TextDelta(text):
                if self.first_text is None:
                    self.first_text = self.seconds
                self._pieces.append(text)
            case Usage():
                self.usage = event
            case Finish():
                self.finish = event

    def end(self) -> None:
        if self.finish is None:
            self.fail(FailureKind.TRUNCATED)
        else:
            self.ending = Ending.FINISHED

    def fail(self, kind: FailureKind) -> None:
        self.ending, self.failure = Ending.PROVIDER, kind

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    @property
    def started(self) -> bool:
        """Whether the model began to answer."""
        return bool(self._pieces) or self.usage is not None

    @property
    def simulated(self) -> bool:
        return self.finish is not None and self.finish.simulated

    @property
    def outcome(self) -> str:
        """The metric label: ``ok``, ``deadline``, ``cancelled`` or the kind of failure."""
        if self.failure:
            return self.failure.value
        return {Ending.FINISHED: "ok", Ending.DEADLINE: "deadline"}.get(
            self.ending or Ending.LIMIT, "cancelled"
        )
