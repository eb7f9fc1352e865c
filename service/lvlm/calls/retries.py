"""Decides whether and when a failed attempt is repeated: after a backoff with jitter, or a Retry-After."""

from __future__ import annotations

import random
from dataclasses import dataclass

from service.lvlm.provider_attempt import Attempt, Ending

FIRST_PAUSE = 0.1
"""Seconds of the longest pause before the second attempt; this bound doubles with every further attempt."""

LONGEST_PAUSE = 2.0
"""Seconds beyond which the bound does not grow; a provider's Retry-After may be longer."""


@dataclass(frozen=True, slots=True)
class Retries:
    """Decides how often and how soon a failed attempt is followed by another.

    Attributes:
        attempts: attempts per call and model at most, with the first one; at least 1.
    """

    attempts: int = 3

    def pause(self, attempt: Attempt, made: int) -> float | None:
        """Returns the seconds to wait before the next attempt; None if another makes no sense.

        Without a ``Retry-After`` the pause is drawn uniformly from 0 to a bound that doubles ("full jitter",
        Brooker, AWS Architecture Blog, 2015), so that calls that failed together are not repeated together.
        A ``Retry-After`` is obeyed, plus up to ``FIRST_PAUSE`` for the same reason.

        Args:
            attempt: attempt that ended last.
            made: number of attempts so far, at least 1.
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
