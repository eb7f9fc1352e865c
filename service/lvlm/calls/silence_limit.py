"""How long an attempt may bring nothing before it is given up."""

from __future__ import annotations

import asyncio

from service.lvlm.providers.base import Alive, Call, Event, Source

LONGEST_SILENCE = 30.0
"""Seconds without an event after which a stream is given up as ``silent``."""

LONGEST_WITHOUT_PROGRESS = 120.0
"""Seconds after which a stream is given up that sends signs of life alone: comments and pings may come for
ever."""

_GRAIN = 1 / 30
"""Part of the silence by which an attempt may be given up early.

The timer is moved no oftener than that, since moving it costs more than reading a token.
"""


def longest_silence(call: Call, otherwise: float) -> float:
    """Returns the seconds for which an answer may be silent; ``otherwise`` for one that is not streamed."""
    return LONGEST_SILENCE if call.stream else otherwise


class SilenceLimit:
    """Moves the time limit of an attempt while the provider is heard.

    Args:
        limit: the attempt's time limit, set for the first event.
        hard: event loop's time at which the attempt is cut in any case.
        silence: seconds without an event after which it is given up.
    """

    def __init__(self, limit: asyncio.Timeout, hard: float, silence: float) -> None:
        self._limit = limit
        self._hard = hard
        self._silence = silence
        self._without_progress = max(silence, LONGEST_WITHOUT_PROGRESS)
        self._time = asyncio.get_running_loop().time
        self._progressed = self._time()
        self._moved = float("-inf")

    def heard(self, event: Event) -> None:
        """Takes note of an event; a response's head is not yet a word, and a sign of life is no progress."""
        if isinstance(event, Source):
            return
        now = self._time()
        if not isinstance(event, Alive) or event.thinking:
            self._progressed = now
        if now - self._moved >= _GRAIN * self._silence:
            self._moved = now
            # The hard end holds whatever is heard; signs of life alone do not keep a stream for ever.
            end = min(self._hard, now + self._silence, self._progressed + self._without_progress)
            self._limit.reschedule(end)
