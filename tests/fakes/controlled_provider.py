"""A provider in the test's own process that plays scripts, without a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from service.lvlm.providers.base import (
    Call,
    Event,
    FailureKind,
    Finish,
    FinishReason,
    ProviderError,
    TextDelta,
    Usage,
)

Step = Event | Exception | asyncio.Event | float
"""An event to yield, an exception to raise, an ``asyncio.Event`` to wait for, or seconds to wait."""

BILLED = Usage(100, 7)
"""Usage that answers of ``says`` report, unless the test says otherwise."""


class ControlledProvider:
    """Plays its scripts in order, one per attempt, and the last one for all further attempts.

    Attributes:
        calls: calls of all attempts, in order.
        times: event loop's times at which the attempts began.
        under_way: number of attempts that have begun and not ended.
        most: largest number of them at any time.
        cancelled: number of attempts that ended before their script did.
    """

    def __init__(self, *scripts: Sequence[Step], name: str = "fake") -> None:
        self._name = name
        self._scripts = list(scripts)
        self.calls: list[Call] = []
        self.times: list[float] = []
        self.under_way = self.most = self.cancelled = 0

    @property
    def name(self) -> str:
        return self._name

    async def stream(self, call: Call) -> AsyncIterator[Event]:
        self.calls.append(call)
        self.times.append(asyncio.get_running_loop().time())
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        ended = False
        try:
            for step in script:
                if isinstance(step, Exception):
                    ended = True
                    raise step
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, float):
                    await asyncio.sleep(step)
                else:
                    yield step
            ended = True
        finally:
            self.under_way -= 1
            self.cancelled += not ended

    async def close(self) -> None:
        """Nothing to free."""

    async def called(self, times: int) -> None:
        """Waits until so many attempts have begun."""
        await eventually(lambda: len(self.calls) >= times)


def says(text: str, reason: FinishReason = FinishReason.STOP, usage: Usage | None = BILLED) -> list[Step]:
    """Returns the script of a complete answer."""
    return [TextDelta(text), *([usage] if usage else []), Finish(reason, "m")]


def ranks(*labels: str, **more: str) -> list[Step]:
    """Returns the script of a complete ranking, with more members of its JSON object."""
    return says(json.dumps({"ranking": list(labels), **more}))


def fails(kind: FailureKind, retry_after: float | None = None) -> list[Step]:
    """Returns the script of a failure before any other event."""
    return [ProviderError(kind, "no", retry_after)]


async def eventually(true: Callable[[], bool | Awaitable[bool]], seconds: float = 30.0) -> None:
    """Waits until something becomes true; raises TimeoutError if it does not."""
    async with asyncio.timeout(seconds):
        while True:
            found = true()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.002)
