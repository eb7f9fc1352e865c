"""A call under way as those see it who wait for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum

from service.lvlm.accounts import Bill
from service.lvlm.attempt import Attempt
from service.lvlm.contracts import Shown


class Step(StrEnum):
    """What a call is doing."""

    PREPARING = "preparing"
    WAITING = "waiting"
    ASKING = "asking"
    PAUSING = "pausing"


@dataclass(slots=True)
class Progress:
    """What a call is doing, and what has come of it.

    Attributes:
        until: the event loop's time until which somebody waits: no second attempt begins after it.
        awaited: whether anybody does, or ever did; a call in the background leaves the way to others.
        attempt: whose answer counts: the one under way, or the last; of two, the first to answer.
        running: attempts under way.
        settled: the bills of attempts that have ended.
        alone: a measurement: nothing is done to it that would make it faster than the provider is.
        shown: what the prompt shows of the history; None before it is built.
    """

    until: float
    awaited: bool = True
    step: Step = Step.PREPARING
    attempt: Attempt | None = None
    running: list[Attempt] = field(default_factory=list)
    settled: Bill = field(default_factory=Bill)
    alone: bool = False
    shown: Shown | None = None
    _watchers: set[asyncio.Event] = field(default_factory=set)

    def begin(self, attempt: Attempt) -> None:
        """A new attempt; what an ended one said counts no more."""
        if self.attempt not in self.running:
            self.attempt = attempt
        self.running.append(attempt)
        self.step = Step.ASKING

    def settle(self, attempt: Attempt, bill: Bill) -> None:
        """An attempt has ended and is in the books."""
        self.settled += bill
        self.running.remove(attempt)
        if self.running and attempt is self.attempt and not attempt.answering:
            self.attempt = self.running[0]

    def arrived(self, attempt: Attempt) -> None:
        """Wake who watches."""
        if self.attempt is not None and attempt.answering and not self.attempt.answering:
            self.attempt = attempt
        for watcher in self._watchers:
            watcher.set()

    def watch(self, watcher: asyncio.Event) -> None:
        """Set an event whenever more has arrived."""
        self._watchers.add(watcher)

    def unwatch(self, watcher: asyncio.Event) -> None:
        """Stop that."""
        self._watchers.discard(watcher)
