"""What fails for an hour is said a few times: at once, then ever more seldom, and when it is over."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

FIRST_PAUSE, LONGEST_PAUSE = 60.0, 600.0
"""Seconds between two lines about the same outage; doubled by every line."""

CALM = 10.0
"""Seconds without a failure after which what works is said to work again: one success may be luck."""

FORGOTTEN = 300.0
"""Seconds without a failure after which the next one is news, to be said at once."""


class Outage:
    """The log of one thing that may fail for long, or now and then: at most 60 lines an hour in any case.

    Args:
        name: of the thing, for the line that says that it works again.
        log: where the lines go.
        level: of the lines.
        clock: seconds, from anywhere.
    """

    def __init__(
        self,
        name: str,
        log: logging.Logger,
        *,
        level: int = logging.WARNING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._log = log
        self._level = level
        self._clock = clock
        self._since: float | None = None
        self._last = float("-inf")
        self._well_since: float | None = None
        self._failures = self._left_out = 0
        self._told = False
        self._quiet_until = float("-inf")
        self._pause = FIRST_PAUSE

    def failed(self, message: str, *arguments: object, error: BaseException | None = None) -> None:
        """It failed; say so if it is time.

        Args:
            message: as for a logger.
            arguments: of the message.
            error: whose traceback goes with the first line of an outage.
        """
        now = self._clock()
        if now - self._last >= FORGOTTEN:
            self._since, self._quiet_until, self._pause = None, now, FIRST_PAUSE
        if self._since is None:
            self._since, self._failures, self._told = now, 0, False
        self._last, self._well_since = now, None
        self._failures += 1
        if now < self._quiet_until:
            self._left_out += 1
            return
        more = f" ({self._left_out} more failures since the last line)" if self._left_out else ""
        trace = error if error is not None and not self._told else None
        self._log.log(self._level, message + "%s", *arguments, more, exc_info=trace)
        self._quiet_until, self._left_out, self._told = now + self._pause, 0, True
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)

    def works(self) -> None:
        """It worked; if it had failed, say so once it has stayed well for a moment."""
        if self._since is None:
            return
        now = self._clock()
        if self._well_since is None:
            self._well_since = now
        if now - self._last < CALM:
            return
        if self._told:
            seconds = self._well_since - self._since
            words = "%s works again, after %.0f s and %d failures"
            self._log.log(self._level, words, self._name, seconds, self._failures)
        self._since = None
