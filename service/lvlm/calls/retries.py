"""When to try again: a pause with backoff and jitter, or the one that the provider asked for."""

from __future__ import annotations

import random
from dataclasses import dataclass

from service.lvlm.attempt import Attempt, Ending

FIRST_PAUSE = 0.1
"""Seconds of the longest pause before the second attempt; the bound doubles with every attempt."""

LONGEST_PAUSE = 2.0
"""Seconds beyond which that bound does not grow."""


@dataclass(frozen=True, slots=True)
class Retries:
    """Decides how often and how soon a failed attempt is followed by another.

    Attributes:
        attempts: attempts per call and model, at most, the first included.
    """

    attempts: int = 3

    def pause(self, attempt: Attempt, made: int) -> float | None:
        """Returns the seconds to wait before the next attempt; None if another makes no sense.

        If the provider does not ask for a pause, it is drawn evenly from 0 to a bound that doubles ("full
        jitter", Brooker, AWS Architecture Blog 2015), so that calls that failed together do not come back
        together; a ``Retry-After`` is kept to, plus a little for the same reason.

        Args:
            attempt: the one that ended last.
            made: number of attempts so far.
        """
        if attempt.ending is not Ending.PROVIDER or attempt.failure is None:
            return None
        if made >= self.attempts or not attempt.failure.retryable:
            return None
        # 0.1, 0.2, 0.4 … seconds.
        bound = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (made - 1))
        if attempt.retry_after is None:
            return random.uniform(0, bound)
        return attempt.retry_after + random.uniform(0, FIRST_PAUSE)
