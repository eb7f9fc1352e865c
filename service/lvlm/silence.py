"""How long an attempt may bring nothing before it is given up."""

from __future__ import annotations

import asyncio

from service.lvlm.providers.base import Alive, Event, Source

KEPT_ALIVE = 120.0
"""Seconds for which signs of life alone keep an attempt: comments and pings may come for ever."""

_GRAIN = 1 / 30
"""Part of the silence by which an attempt may be given up early.

The timer is moved no oftener than that, since moving it costs more than reading a token.
"""


class SilenceLimit:
    """Moves the time limit of an attempt while the provider is heard.

    Args:
        limit: the attempt's time limit, set for the first word.
        hard: the event loop's time at which the attempt is cut in any case.
        silence: seconds without an event after which it is given up.
    """

    def __init__(self, limit: asyncio.Timeout, hard: float, silence: float) -> None:
        self._limit = limit
        self._hard = hard
        self._silence = silence
        self._kept_alive = max(silence, KEPT_ALIVE)
        self._time = asyncio.get_running_loop().time
        self._progressed = self._time()
        self._moved = float("-inf")

    def heard(self, event: Event) -> None:
        """Take note of an event; a head is not yet a word, and a sign of life is no progress."""
        if isinstance(event, Source):
            return
        now = self._time()
        if not isinstance(event, Alive) or event.thinking:
            self._progressed = now
        if now - self._moved >= _GRAIN * self._silence:
            self._moved = now
            end = min(self._hard, now + self._silence, self._progressed + self._kept_alive)
            self._limit.reschedule(end)
