"""Hedging: decides when a second attempt is sent beside a slow first one.

Hedged requests: Dean and Barroso, The Tail at Scale, CACM 56(2), 2013.
"""

from __future__ import annotations

from collections import deque
from statistics import median, quantiles

from service.lvlm.attempt import Attempt, Ending

SAMPLES = 100
"""Latest times to first token of a model that are kept; older ones are forgotten."""

MIN_SAMPLES = 20
"""Calls needed before a percentile of their time to first token is trusted; with fewer, nothing is hedged."""

MIN_RATIO = 2.0
"""Least wait before a hedge, in medians: where all answers take about as long, a late one is not lost."""

MAX_CREDIT = 3.0
"""Hedges that may be sent in a row after a long time without any; credit beyond it is lost."""


class Hedging:
    """Learns how soon one model begins to answer, and how many hedges its calls have earned.

    Args:
        share: hedges per attempt, at most, from 0 (none) to 1.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._credit = 0.0
        self._seconds: deque[float] = deque(maxlen=SAMPLES)

    def learn(self, attempt: Attempt) -> None:
        """Takes an attempt that ended into account."""
        self._credit = min(MAX_CREDIT, self._credit + self._share)
        if attempt.ending is Ending.FINISHED and attempt.first_text is not None:
            self._seconds.append(attempt.first_text)

    def after(self) -> float | None:
        """Returns the seconds without a word of the answer after which to hedge; None for not at all."""
        if self._credit < 1 or len(self._seconds) < MIN_SAMPLES:
            return None
        # The last of 19 cut points is the 95th percentile.
        return max(quantiles(self._seconds, n=20)[-1], MIN_RATIO * median(self._seconds))

    def spend(self) -> None:
        """Takes the credit for a hedge that is sent."""
        self._credit -= 1

    def refund(self) -> None:
        """Gives the credit back for a hedge that was not sent after all."""
        self._credit += 1
