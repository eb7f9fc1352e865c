"""The progress of a call that is being made, as the requests that wait for it see it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum

from service.lvlm.bill import Bill
from service.lvlm.contracts import Shown
from service.lvlm.provider_attempt import Attempt


class Step(StrEnum):
    """What a call is doing."""

    PREPARING = "preparing"  # its prompt is being built
    WAITING = "waiting"  # for a permit of the concurrency limit or a reservation of the quota
    ASKING = "asking"  # an attempt is running
    PAUSING = "pausing"  # before a retry


@dataclass(slots=True)
class CallProgress:
    """What a call is doing, and what has arrived of its answer. Read and changed on the event loop alone.

    Attributes:
        until: event loop's time, in seconds, until which a request waits; no further attempt begins after it.
        awaited: whether a request waits, or ever did; a call in the background leaves permits to others.
        step: what the call is doing.
        attempt: attempt whose answer counts: the running or last one, and of two the first to answer.
        running: attempts that have begun and not ended, at most two.
        settled: sum of the bills of attempts that have ended.
        measured: whether the call measures the provider, so that it is never hedged.
        shown: what the prompt shows of the history; None before the prompt is built.
    """

    until: float
    awaited: bool = True
    step: Step = Step.PREPARING
    attempt: Attempt | None = None
    running: list[Attempt] = field(default_factory=list)
    settled: Bill = field(default_factory=Bill)
    measured: bool = False
    shown: Shown | None = None
    _watchers: set[asyncio.Event] = field(default_factory=set)

    def begin(self, attempt: Attempt) -> None:
        """Adds an attempt; the text of an ended one counts no more."""
        # Of two attempts side by side the first one counts until the other answers first.
        if self.attempt not in self.running:
            self.attempt = attempt
        self.running.append(attempt)
        self.step = Step.ASKING

    def settle(self, attempt: Attempt, bill: Bill) -> None:
        """Removes an attempt that has ended, and adds its bill."""
        self.settled += bill
        self.running.remove(attempt)
        # One of two attempts has failed without any text: the other one counts now.
        if self.running and attempt is self.attempt and not attempt.answering:
            self.attempt = self.running[0]

    def notify(self, attempt: Attempt) -> None:
        """Wakes the watchers after an event of an attempt."""
        # The first of two attempts to answer counts from now on.
        if self.attempt is not None and attempt.answering and not self.attempt.answering:
            self.attempt = attempt
        for watcher in self._watchers:
            watcher.set()

    def watch(self, watcher: asyncio.Event) -> None:
        """Registers an event that is set whenever more has arrived."""
        self._watchers.add(watcher)

    def unwatch(self, watcher: asyncio.Event) -> None:
        """Removes an event that was registered."""
        self._watchers.discard(watcher)
