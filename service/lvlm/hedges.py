"""When a second attempt beside a slow first one is worth its price.

Hedged requests: Dean and Barroso, The Tail at Scale, CACM 56(2), 2013.
"""

from __future__ import annotations

from collections import deque
from statistics import median, quantiles

from service.lvlm.attempt import Attempt, Ending

REMEMBERED = 100
"""First words of a model whose times are known."""

ENOUGH = 20
"""So few say nothing about what is unusual."""

SLOW = 2.0
"""Times the median, at least: where all answers take about as long, a late one is not lost."""

SAVED_UP = 3.0
"""Second attempts that may be made in a row after a long time without any."""


class Hedges:
    """Knows how soon one model begins to answer, and how many second attempts its calls have earned.

    Args:
        share: second attempts per attempt, at most; 0 for none.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._credit = 0.0
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)

    def learn(self, attempt: Attempt) -> None:
        """Take an attempt that ended into account."""
        self._credit = min(SAVED_UP, self._credit + self._share)
        if attempt.ending is Ending.FINISHED and attempt.first_text is not None:
            self._seconds.append(attempt.first_text)

    def after(self) -> float | None:
        """Seconds without a word of the answer after which to make a second attempt; None for not at all."""
        if self._credit < 1 or len(self._seconds) < ENOUGH:
            return None
        return max(quantiles(self._seconds, n=20)[-1], SLOW * median(self._seconds))

    def spend(self) -> None:
        """A second attempt is made."""
        self._credit -= 1

    def refund(self) -> None:
        """A second attempt was not made after all."""
        self._credit += 1
