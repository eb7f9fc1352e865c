"""Logs an outage at once, then ever more seldom, and when it is over: an hour of failures is a few lines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

FIRST_PAUSE, LONGEST_PAUSE = 60.0, 600.0
"""Seconds between two lines about the same outage: each line doubles the pause, up to the longest."""

CALM = 10.0
"""Seconds without a failure after which a success ends the outage: one success alone may be luck."""

FORGOTTEN = 300.0
"""Seconds without a failure after which the next one begins a new outage, and is logged at once."""


class Outage:
    """The log of one thing that may fail for long, or now and then: at most 60 lines an hour in any case.

    Args:
        name: name of the thing, for the line that says that it works again.
        log: logger that the lines go to.
        level: level of the lines.
        clock: returns seconds since any moment.
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
        """Notes a failure, and logs it if a line is due.

        Args:
            message: text with placeholders, as for a logger.
            arguments: values of the placeholders.
            error: error whose traceback goes with the first line of an outage.
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
        """Notes a success, and logs the end of an outage once it has lasted for ``CALM`` seconds."""
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
