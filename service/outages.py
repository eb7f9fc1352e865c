"""Logs an outage when it begins, at growing intervals while it lasts, and when it is over."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

FIRST_PAUSE, LONGEST_PAUSE = 60.0, 600.0
"""Seconds without a line after the first line of an outage, doubled by each further one up to the longest."""

RECOVERY_SECONDS = 10.0
"""Seconds without a failure after which a success ends the outage; an earlier success leaves it open."""

NEW_OUTAGE_AFTER = 300.0
"""Seconds without a failure after which the next one begins a new outage, and is logged at once."""


class Outage:
    """Logs the failures of one dependency, lasting or now and then, in at most 60 lines an hour.

    Args:
        name: name of the dependency, for the line that says that it works again.
        log: logger that the lines go to.
        level: level of the lines.
        clock: monotonic clock, in seconds.
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
        # Times are those of the clock.
        self._since: float | None = None  # first failure of the outage; None while there is none
        self._last = float("-inf")  # latest failure
        self._recovering_since: float | None = None  # first success after the latest failure
        self._failures = self._unlogged = 0  # of this outage; since the last line
        self._reported = False  # whether this outage has a line
        self._quiet_until = float("-inf")
        self._pause = FIRST_PAUSE

    def failed(self, message: str, *arguments: object, error: BaseException | None = None) -> None:
        """Counts a failure, and logs it if a line is due.

        Args:
            message: text with ``%`` placeholders, as for a logger.
            arguments: values of the placeholders.
            error: error whose traceback goes with the first line of an outage.
        """
        now = self._clock()
        if now - self._last >= NEW_OUTAGE_AFTER:
            self._since, self._quiet_until, self._pause = None, now, FIRST_PAUSE
        if self._since is None:
            self._since, self._failures, self._reported = now, 0, False
        self._last, self._recovering_since = now, None
        self._failures += 1
        if now < self._quiet_until:
            self._unlogged += 1
            return
        more = f" ({self._unlogged} more failures since the last line)" if self._unlogged else ""
        trace = error if error is not None and not self._reported else None
        self._log.log(self._level, message + "%s", *arguments, more, exc_info=trace)
        self._quiet_until, self._unlogged, self._reported = now + self._pause, 0, True
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)

    def works(self) -> None:
        """Notes a success; one that comes ``RECOVERY_SECONDS`` after the last failure ends the outage."""
        if self._since is None:
            return
        now = self._clock()
        if self._recovering_since is None:
            self._recovering_since = now
        if now - self._last < RECOVERY_SECONDS:
            return
        if self._reported:
            seconds = self._recovering_since - self._since
            words = "%s works again, after %.0f s and %d failures"
            self._log.log(self._level, words, self._name, seconds, self._failures)
        self._since = None
