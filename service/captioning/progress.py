"""Counts the progress of a captioning run, and shows it on one line of the terminal."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

BAR_WIDTH = 24
"""Characters of the bar, whatever the width of the terminal."""

REPORT_EVERY = 100
"""Images between two lines of progress where the output is not a terminal."""

FAILURES_NAMED = 20
"""Failures that the summary names; those beyond are only counted."""


@dataclass
class CaptioningProgress:
    """Counts of a run, and the lines that report them on the standard error.

    Attributes:
        wanted: items that the run is to describe, at least 0.
        written: items that have been given a caption.
        cost_usd: dollars for all calls so far; calls without a known price count as 0.
        failures: reason why an item has no caption, by item id.
        began: time of the monotonic clock, in seconds, at which the run began.
    """

    wanted: int
    written: int = 0
    cost_usd: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        """Items that were given a caption or have failed."""
        return self.written + len(self.failures)

    @property
    def line(self) -> str:
        """The line of the terminal: bar, count, rate, cost so far and time left."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        rate = self.done / seconds
        left = _clock((self.wanted - self.done) / rate) if rate else "–"
        full = BAR_WIDTH * self.done // max(1, self.wanted)
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return (
            f"{'█' * full}{'░' * (BAR_WIDTH - full)} {self.done}/{self.wanted} images, {rate:.1f}/s, "
            f"${self.cost_usd:.4f}, {left} left{failed}"
        )

    def show(self) -> None:
        """Rewrites the line in place on a terminal; in a file or pipe writes a new one now and then."""
        if sys.stderr.isatty():
            self.report(f"\r{self.line}\x1b[K", end="")  # to the line's start, and erase what is left of it
        elif self.done % REPORT_EVERY == 0 or self.done == self.wanted:
            self.report(self.line)

    def report(self, text: str, end: str = "\n") -> None:
        """Writes a text to the standard error, if that is still open."""
        try:
            sys.stderr.write(text + end)
            sys.stderr.flush()
        except OSError:  # the terminal closed with the parent process; the work goes on
            pass

    def summarise(self, where: str) -> None:
        """Writes the totals of the run and names its first failures.

        Args:
            where: name of the caption file.
        """
        if sys.stderr.isatty():
            self.report("")  # leaves the line that was rewritten in place
        self.report(
            f"{self.written} captions written to {where}, {len(self.failures)} failed, ${self.cost_usd:.4f}"
        )
        for item_id, reason in list(self.failures.items())[:FAILURES_NAMED]:
            self.report(f"  {item_id}: {reason}")
        if len(self.failures) > FAILURES_NAMED:
            self.report(f"  and {len(self.failures) - FAILURES_NAMED} more")


def _clock(seconds: float) -> str:
    """Formats a duration as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
