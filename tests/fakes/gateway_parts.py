"""Parts for tests of the gateway: a call to make, attempts that have ended, and meters with faults."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from controlled_provider import BILLED, ControlledProvider, Step

from service.lvlm.calls.gateway import Gateway
from service.lvlm.calls.retries import Retries
from service.lvlm.cost.prices import Prices
from service.lvlm.provider_attempt import Attempt
from service.lvlm.providers.base import (
    Call,
    FailureKind,
    Finish,
    FinishReason,
    Prompt,
    Text,
)
from service.metrics import Metrics
from service.stores.base import Flow, StoreError, Sum
from service.stores.memory import MemoryMeters

MODEL = "gpt-4o"
PROMPT = Prompt("Rank.", (Text("data " * 80),), None, "1", answer_tokens=20)
CALL = Call(PROMPT, MODEL, max_output_tokens=100)
DOLLARS = Prices.read().cost(MODEL, BILLED) or 0.0
"""US dollars of an answer whose usage is ``BILLED``."""


def count(metrics: Metrics, name: str, **labels: str) -> float:
    """Returns the value of a metric's sample; 0 before its first event."""
    return metrics.registry.get_sample_value(name, labels) or 0.0


def now() -> float:
    """Returns the event loop's time, in seconds."""
    return asyncio.get_running_loop().time()


def failed(kind: FailureKind, retry_after: float | None = None) -> Attempt:
    """Returns an attempt that has failed."""
    attempt = Attempt("fake", CALL)
    attempt.fail(kind, retry_after)
    return attempt


def finished() -> Attempt:
    """Returns an attempt that has finished."""
    attempt = Attempt("fake", CALL)
    attempt.take(Finish(FinishReason.STOP, "m"))
    attempt.end()
    return attempt


def two(first: Sequence[Step], second: Sequence[Step]) -> tuple[ControlledProvider, ControlledProvider]:
    """Returns two providers, ``fake`` and ``other``, with a script each."""
    return ControlledProvider(first, name="fake"), ControlledProvider(second, name="other")


def within(seconds: float) -> Callable[[], float]:
    """Returns a function that returns the event loop's time so many seconds from now, at every call."""
    until = now() + seconds
    return lambda: until


async def totals(gateway: Gateway) -> list[float]:
    """Returns the totals of a gateway's meters, once all reservations are settled."""
    await asyncio.gather(*gateway._backend.quota._settling)
    meters = gateway._backend.quota._meters
    assert isinstance(meters, MemoryMeters)
    return [total for total, _ in meters._totals.values()]


class RetriesWithoutPause(Retries):
    """Retries without a pause."""

    def pause(self, attempt: Attempt, made: int) -> float | None:
        return None if super().pause(attempt, made) is None else 0.0


class SlowMeters:
    """Meters behind a network: every operation takes a few turns of the event loop, and may fail.

    Attributes:
        down: whether every operation fails.
        kept: meters at the other end of the network.
    """

    down = False

    def __init__(self) -> None:
        self.kept = MemoryMeters()

    async def draw(self, flows: Sequence[Flow], patience: float) -> float | None:
        await self._network()
        drawn = await self.kept.draw(flows, patience)
        await self._network()
        return drawn

    async def correct(self, flows: Sequence[Flow]) -> None:
        await self._network()
        await self.kept.correct(flows)
        await self._network()

    async def add(self, sums: Sequence[Sum]) -> bool:
        await self._network()
        added = await self.kept.add(sums)
        await self._network()
        return added

    async def settle(self, sums: Sequence[Sum]) -> None:
        await self._network()
        await self.kept.settle(sums)
        await self._network()

    async def _network(self) -> None:
        if self.down:
            raise StoreError("down")
        await asyncio.sleep(0)


class BrokenMeters:
    """Meters whose every operation fails, as those of a store that is down."""

    async def draw(self, flows: Sequence[Flow], patience: float) -> float | None:
        raise StoreError("down")

    async def correct(self, flows: Sequence[Flow]) -> None:
        raise StoreError("down")

    async def add(self, sums: Sequence[Sum]) -> bool:
        raise StoreError("down")

    async def settle(self, sums: Sequence[Sum]) -> None:
        raise StoreError("down")
