"""A circuit breaker (Nygard, Release It!, 2007): a model that keeps failing is not called for a while."""

from __future__ import annotations

import time
from collections import deque

from service.lvlm.attempt import Attempt, Ending
from service.lvlm.providers.base import FailureKind

WINDOW = 30.0
"""Seconds for which the end of an attempt counts."""

MIN_ATTEMPTS = 10
"""Attempts needed in the window before the breaker may open for failures among them."""

FAILURE_SHARE = 0.5
"""Share of failures in the window at which the breaker opens."""

FIRST_OPEN, LONGEST_OPEN = 5.0, 60.0
"""Seconds for which the breaker stays open at first and at most; every probe that fails doubles them."""

UNANSWERED, UNANSWERED_PLAIN = 10.0, 60.0
"""Seconds without any event after which an attempt that was cut counts as a failure of the provider. A plain
answer, which is not streamed, says nothing until it is there, and so has the longer time."""


class CircuitBreaker:
    """Watches the attempts at one model of one provider.

    Closed, it lets everything through; open, nothing; then half-open, one attempt at a time until one
    succeeds.
    """

    def __init__(self) -> None:
        # When an attempt ended, and whether it went well.
        self._ended: deque[tuple[float, bool]] = deque(maxlen=4 * MIN_ATTEMPTS)
        self._open_seconds = FIRST_OPEN
        self._opened = 0.0
        self._open_until: float | None = None
        self._probing = False

    @property
    def open(self) -> bool:
        """Whether attempts are refused, but for a probe."""
        return self._open_until is not None

    @property
    def refuses(self) -> bool:
        """Whether ``admit`` would say no."""
        return self._open_until is not None and (self._probing or time.monotonic() < self._open_until)

    def admit(self) -> bool:
        """Tells whether an attempt may be made now; every admitted one must be given to ``record``."""
        if self.refuses:
            return False
        # Half-open: this attempt is the probe, and no other is admitted until it is recorded.
        self._probing = self.open
        return True

    def record(self, attempt: Attempt) -> None:
        """Learns from an attempt that ended, in whatever way."""
        good, now = _went_well(attempt), time.monotonic()
        if self.open:
            self._record_while_open(attempt, good, now)
            return
        # It says nothing about the provider: cancelled, or refused for too many calls.
        if good is None:
            return
        self._ended.append((now, good))
        recent = [each for at, each in self._ended if at > now - WINDOW]
        failing = len(recent) >= MIN_ATTEMPTS and recent.count(False) >= FAILURE_SHARE * len(recent)
        # An account that is refused stays refused: nothing is learnt by asking nine times more.
        if not good and (failing or attempt.failure is FailureKind.AUTHENTICATION):
            self._open(now, attempt)

    def _record_while_open(self, attempt: Attempt, good: bool | None, now: float) -> None:
        if good:
            self._close()
        elif now - attempt.seconds >= self._opened:  # the probe; others began before, and are no news
            self._probing = False
            if good is False:
                self._open_seconds = min(LONGEST_OPEN, 2 * self._open_seconds)
                self._open(now, attempt)

    def _open(self, now: float, attempt: Attempt) -> None:
        self._opened = now
        # A Retry-After may ask for a day: it is kept to no longer than the breaker would stay open by itself.
        self._open_until = now + max(self._open_seconds, min(attempt.retry_after or 0.0, LONGEST_OPEN))
        self._ended.clear()

    def _close(self) -> None:
        self._open_until = None
        self._probing = False
        self._open_seconds = FIRST_OPEN
        self._ended.clear()


def _went_well(attempt: Attempt) -> bool | None:
    """Whether the provider did well; None if the attempt does not tell."""
    # A request that is refused as wrong is our fault, and shows that the provider works.
    if attempt.ending is Ending.FINISHED or attempt.failure is FailureKind.REQUEST:
        return True
    if attempt.failure is FailureKind.RATE_LIMITED:
        return None  # the provider is well and has too much to do: the concurrency limit is for that
    if attempt.ending is Ending.PROVIDER:
        return False
    # Cut by its deadline or cancelled, which is the provider's fault only after a long silence.
    patience = UNANSWERED if attempt.call.stream else UNANSWERED_PLAIN
    return False if not attempt.heard and attempt.seconds >= patience else None
