"""A call under way as the requests see it that wait for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum

from service.lvlm.attempt import Attempt
from service.lvlm.bill import Bill
from service.lvlm.contracts import Shown


class Step(StrEnum):
    """What a call is doing."""

    PREPARING = "preparing"
    WAITING = "waiting"
    ASKING = "asking"
    PAUSING = "pausing"


@dataclass(slots=True)
class CallProgress:
    """What a call is doing, and what has come of it.

    Attributes:
        until: event loop's time until which a request waits for it: no further attempt begins after it.
        awaited: whether a request waits, or ever did; a call in the background leaves permits to others.
        step: what it is doing.
        attempt: the attempt whose answer counts: the one under way, or the last; of two, the first to answer.
        running: attempts under way.
        settled: bills of attempts that have ended.
        alone: whether it is a measurement, to which nothing is done that would make it faster than the
            provider is.
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
        """Adds an attempt; what an ended one said counts no more."""
        # Of two attempts side by side the first one counts until the other answers first.
        if self.attempt not in self.running:
            self.attempt = attempt
        self.running.append(attempt)
        self.step = Step.ASKING

    def settle(self, attempt: Attempt, bill: Bill) -> None:
        """Takes an attempt out that has ended, and adds its bill."""
        self.settled += bill
        self.running.remove(attempt)
        # One of two has failed without a word of the answer: the other one counts now.
        if self.running and attempt is self.attempt and not attempt.answering:
            self.attempt = self.running[0]

    def arrived(self, attempt: Attempt) -> None:
        """Wakes the watchers after an event of an attempt."""
        if self.attempt is not None and attempt.answering and not self.attempt.answering:
            self.attempt = attempt
        for watcher in self._watchers:
            watcher.set()

    def watch(self, watcher: asyncio.Event) -> None:
        """Sets an event from now on whenever more has arrived."""
        self._watchers.add(watcher)

    def unwatch(self, watcher: asyncio.Event) -> None:
        """Stops setting it."""
        self._watchers.discard(watcher)
