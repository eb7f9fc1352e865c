"""A circuit breaker (Nygard, Release It!, 2007) stops calls to a model that keeps failing, for a while."""

from __future__ import annotations

import time
from collections import deque

from service.lvlm.provider_attempt import Attempt, Ending
from service.lvlm.providers.base import FailureKind

WINDOW = 30.0
"""Seconds for which an ended attempt counts; older ones are ignored."""

MIN_ATTEMPTS = 10
"""Attempts needed in the window before failures may open the breaker; with fewer it stays closed."""

FAILURE_SHARE = 0.5
"""Share of failures in the window at which the breaker opens."""

FIRST_OPEN, LONGEST_OPEN = 5.0, 60.0
"""Seconds for which the breaker stays open at first and at most; every probe that fails doubles them."""

UNANSWERED, UNANSWERED_PLAIN = 10.0, 60.0
"""Seconds without any event after which an attempt that was cut or cancelled counts as a failed one.

The second number is for answers that are not streamed: nothing arrives of them before they are whole.
"""


class CircuitBreaker:
    """Admits or refuses attempts at one model of one provider, by how earlier attempts ended.

    Closed, it admits all attempts; open, none; then half-open, one at a time until one succeeds. Only the
    event loop's thread may use it.
    """

    def __init__(self) -> None:
        # Monotonic seconds when an attempt ended, and whether it succeeded.
        self._ended: deque[tuple[float, bool]] = deque(maxlen=4 * MIN_ATTEMPTS)
        self._open_seconds = FIRST_OPEN  # of the current or the next time that it opens
        self._opened = 0.0
        self._open_until: float | None = None  # None while closed; in the past while half-open
        self._probing = False  # an attempt was admitted while half-open and has not ended

    @property
    def open(self) -> bool:
        """Whether attempts are refused, except a probe once the breaker is half-open."""
        return self._open_until is not None

    @property
    def refuses(self) -> bool:
        """Whether ``admit`` would refuse an attempt now."""
        return self._open_until is not None and (self._probing or time.monotonic() < self._open_until)

    def admit(self) -> bool:
        """Tells whether an attempt may be made now; the caller must ``record`` every admitted one."""
        if self.refuses:
            return False
        # Half-open: this attempt is the probe, and no other is admitted until it is recorded.
        self._probing = self.open
        return True

    def record(self, attempt: Attempt) -> None:
        """Takes an attempt that has ended, in whatever way, into account."""
        good, now = _succeeded(attempt), time.monotonic()
        if self.open:
            self._record_while_open(attempt, good, now)
            return
        # Says nothing about the provider's health: cancelled, or refused for too many calls.
        if good is None:
            return
        self._ended.append((now, good))
        recent = [each for at, each in self._ended if at > now - WINDOW]
        failing = len(recent) >= MIN_ATTEMPTS and recent.count(False) >= FAILURE_SHARE * len(recent)
        # A refused account stays refused, so that one such failure is enough.
        if not good and (failing or attempt.failure is FailureKind.AUTHENTICATION):
            self._open(now, attempt)

    def _record_while_open(self, attempt: Attempt, good: bool | None, now: float) -> None:
        if good:
            self._close()
        elif now - attempt.seconds >= self._opened:  # the probe; other attempts began before it opened
            self._probing = False
            if good is False:
                self._open_seconds = min(LONGEST_OPEN, 2 * self._open_seconds)
                self._open(now, attempt)

    def _open(self, now: float, attempt: Attempt) -> None:
        self._opened = now
        # A Retry-After may ask for a day; it is obeyed for as long as the breaker may stay open by itself.
        self._open_until = now + max(self._open_seconds, min(attempt.retry_after or 0.0, LONGEST_OPEN))
        self._ended.clear()

    def _close(self) -> None:
        self._open_until = None
        self._probing = False
        self._open_seconds = FIRST_OPEN
        self._ended.clear()


def _succeeded(attempt: Attempt) -> bool | None:
    """Whether the provider works, by this attempt; None if the attempt does not show it."""
    # A request that is refused as wrong is our fault, and shows that the provider works.
    if attempt.ending is Ending.FINISHED or attempt.failure is FailureKind.REQUEST:
        return True
    if attempt.failure is FailureKind.RATE_LIMITED:
        return None  # the provider works and is busy, which is the concurrency limit's matter
    if attempt.ending is Ending.PROVIDER:
        return False
    # Cut by its deadline or cancelled, which is the provider's fault only after a long silence.
    unanswered = UNANSWERED if attempt.call.stream else UNANSWERED_PLAIN
    return False if not attempt.event_received and attempt.seconds >= unanswered else None
