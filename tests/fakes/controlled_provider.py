"""Fakes a provider in the test's own process, each step of which the test decides."""

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
"""What to send, what to raise, what to wait for, or seconds to wait."""

BILLED = Usage(100, 7)


class ControlledProvider:
    """Plays its scripts in order, one per attempt; the last one again and again.

    Attributes:
        calls: every attempt as it came.
        times: of the attempts, by the event loop's clock.
        under_way: attempts that have begun and not ended.
        most: the largest number of them at any time.
        cancelled: attempts that were ended before their script was.
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
        """Wait until so many attempts have begun."""
        await eventually(lambda: len(self.calls) >= times)


def says(text: str, reason: FinishReason = FinishReason.STOP, usage: Usage | None = BILLED) -> list[Step]:
    """A complete answer."""
    return [TextDelta(text), *([usage] if usage else []), Finish(reason, "m")]


def ranks(*labels: str, **more: str) -> list[Step]:
    """A complete ranking."""
    return says(json.dumps({"ranking": list(labels), **more}))


def fails(kind: FailureKind, retry_after: float | None = None) -> list[Step]:
    """A failure before anything was said."""
    return [ProviderError(kind, "no", retry_after)]


async def eventually(true: Callable[[], bool | Awaitable[bool]], seconds: float = 30.0) -> None:
    """Wait until something becomes true; fail if it does not."""
    async with asyncio.timeout(seconds):
        while True:
            found = true()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.002)
