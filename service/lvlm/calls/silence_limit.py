"""Limits how long an attempt may go without an event before it is given up."""

from __future__ import annotations

import asyncio

from service.lvlm.providers.base import Alive, Call, Event, Source

LONGEST_SILENCE = 30.0
"""Seconds without an event after which a stream is given up as ``silent``."""

LONGEST_WITHOUT_PROGRESS = 120.0
"""Seconds without progress after which a stream is given up that sends only keep-alive comments and pings."""

_GRANULARITY = 1 / 30
"""Share of the silence that must pass before the timer is moved again, so that an attempt may end that early.

Moving the timer costs more than reading a token.
"""


def longest_silence(call: Call, otherwise: float) -> float:
    """Returns the seconds that an attempt may go without an event.

    Args:
        call: call of the attempt.
        otherwise: seconds for an answer that is not streamed, and so brings nothing before its end.
    """
    return LONGEST_SILENCE if call.stream else otherwise


class SilenceLimit:
    """Moves the time limit of an attempt further with every event.

    Args:
        limit: time limit of the attempt, set for the first event.
        call_end: event loop's time, in seconds, at which the attempt is cut in any case.
        silence: seconds without an event after which the attempt is given up.
    """

    def __init__(self, limit: asyncio.Timeout, call_end: float, silence: float) -> None:
        self._limit = limit
        self._hard = call_end
        self._silence = silence
        self._without_progress = max(silence, LONGEST_WITHOUT_PROGRESS)
        self._time = asyncio.get_running_loop().time
        self._progressed = self._time()
        self._moved = float("-inf")

    def restart(self, event: Event) -> None:
        """Gives the attempt more time after an event.

        The head of a response (``Source``) gives none, since a server may send it and then nothing. A sign
        of life without progress gives time only up to ``LONGEST_WITHOUT_PROGRESS``.
        """
        if isinstance(event, Source):
            return
        now = self._time()
        if not isinstance(event, Alive) or event.thinking:
            self._progressed = now
        if now - self._moved >= _GRANULARITY * self._silence:
            self._moved = now
            # The call's end holds in any case, and signs of life alone do not keep a stream open for ever.
            end = min(self._hard, now + self._silence, self._progressed + self._without_progress)
            self._limit.reschedule(end)
