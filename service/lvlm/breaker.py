"""A circuit breaker (Nygard, Release It!, 2007): a provider that keeps failing is left alone for a while."""

from __future__ import annotations

import time
from collections import deque

from service.lvlm.attempt import Attempt, Ending
from service.lvlm.providers.base import FailureKind

WINDOW = 30.0
"""Seconds that count."""

VERDICTS = 10
"""So few attempts say nothing yet."""

SHARE = 0.5
"""Of failures among them, at which it opens."""

FIRST_REST, LONGEST_REST = 5.0, 60.0
"""Seconds for which it stays open; doubled by every probe that fails."""

SILENCE, SILENCE_PLAIN = 10.0, 60.0
"""Seconds without a word after which an attempt that was cut counts as a failure of the provider: a plain
answer says nothing until it is there."""


class Breaker:
    """Watches the attempts at one model of one provider.

    Closed, it lets everything through; open, nothing; then half-open, one attempt at a time until one
    succeeds.
    """

    def __init__(self) -> None:
        self._verdicts: deque[tuple[float, bool]] = deque(maxlen=4 * VERDICTS)
        self._rest = FIRST_REST
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
        """Whether an attempt may be made now; every admitted one must be told to ``record``."""
        if self.refuses:
            return False
        self._probing = self.open
        return True

    def record(self, attempt: Attempt) -> None:
        """Learn from an attempt that ended, in whatever way."""
        good, now = _verdict(attempt), time.monotonic()
        if self.open:
            self._record_while_open(attempt, good, now)
            return
        if good is None:
            return
        self._verdicts.append((now, good))
        recent = [verdict for at, verdict in self._verdicts if at > now - WINDOW]
        failing = len(recent) >= VERDICTS and recent.count(False) >= SHARE * len(recent)
        # An account that is refused stays refused: nothing is learnt by asking nine times more.
        if not good and (failing or attempt.failure is FailureKind.AUTHENTICATION):
            self._open(now, attempt)

    def _record_while_open(self, attempt: Attempt, good: bool | None, now: float) -> None:
        if good:
            self._close()
        elif now - attempt.seconds >= self._opened:  # the probe; others began before, and are no news
            self._probing = False
            if good is False:
                self._rest = min(LONGEST_REST, 2 * self._rest)
                self._open(now, attempt)

    def _open(self, now: float, attempt: Attempt) -> None:
        self._opened = now
        self._open_until = now + max(self._rest, min(attempt.retry_after or 0.0, LONGEST_REST))
        self._verdicts.clear()

    def _close(self) -> None:
        self._open_until = None
        self._probing = False
        self._rest = FIRST_REST
        self._verdicts.clear()


def _verdict(attempt: Attempt) -> bool | None:
    """Whether the provider did well; None if the attempt does not say."""
    if attempt.ending is Ending.FINISHED or attempt.failure is FailureKind.REQUEST:
        return True
    if attempt.failure is FailureKind.RATE_LIMITED:
        return None  # it is well, and has too much to do: `places` is for that
    if attempt.ending is Ending.PROVIDER:
        return False
    patience = SILENCE if attempt.call.stream else SILENCE_PLAIN
    return False if not attempt.heard and attempt.seconds >= patience else None
