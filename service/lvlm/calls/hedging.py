"""Hedging: decides when a second attempt is sent beside a slow first one.

Hedged requests: Dean and Barroso, The Tail at Scale, CACM 56(2), 2013.
"""

from __future__ import annotations

from collections import deque
from statistics import median, quantiles

from service.lvlm.provider_attempt import Attempt, Ending

SAMPLES = 100
"""Latest times to first token of a model that are kept; older ones are dropped."""

MIN_SAMPLES = 20
"""Calls needed before a percentile of their time to first token is trusted; with fewer, nothing is hedged."""

MIN_RATIO = 2.0
"""Shortest wait before a hedge, in medians of the time to first token.

Where all answers take about as long, the 95th percentile is close to the median, and an answer that is a
little late will still come.
"""

MAX_CREDIT = 3.0
"""Hedges that may be sent in a row after a long time without any; further credit is not given."""


class Hedging:
    """Estimates when an attempt at one model is unusually slow to begin, and limits the number of hedges.

    Each attempt earns a share of a hedge's credit, so that hedges stay a small part of all attempts.

    Args:
        share: hedges per attempt at most, from 0 (none) to 1.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._credit = 0.0
        self._seconds: deque[float] = deque(maxlen=SAMPLES)

    def learn(self, attempt: Attempt) -> None:
        """Takes an attempt that has ended into account."""
        self._credit = min(MAX_CREDIT, self._credit + self._share)
        if attempt.ending is Ending.FINISHED and attempt.first_text is not None:
            self._seconds.append(attempt.first_text)

    def after(self) -> float | None:
        """Returns the seconds without any text after which to send a hedge; None for no hedge."""
        if self._credit < 1 or len(self._seconds) < MIN_SAMPLES:
            return None
        # The last of 19 cut points is the 95th percentile.
        return max(quantiles(self._seconds, n=20)[-1], MIN_RATIO * median(self._seconds))

    def spend(self) -> None:
        """Takes the credit of one hedge, which is about to be sent."""
        self._credit -= 1

    def refund(self) -> None:
        """Returns the credit of one hedge that was not sent after all."""
        self._credit += 1
