"""Shows how far long work has come: a bar on a terminal, else a line in the log about every ten seconds."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

log = logging.getLogger(__name__)

EVERY = 10.0
"""Seconds between two lines of the log; work that is shorter has none."""


class ShownProgress:
    """Shows the progress of work of a known size, in a ``with`` block around it.

    Args:
        description: what is worked on, the beginning of the bar or line, such as ``epoch 3``.
        total: size of the work in units.
        unit: one unit of the work, such as ``step``; it stands beside the bar's rate.
        every: seconds between two lines.
    """

    def __init__(self, description: str, total: int, unit: str, every: float = EVERY) -> None:
        self.description, self.total, self.every = description, total, every
        self.done = 0
        # A bar that is gone at the end leaves the terminal to what is printed next.
        self._bar = tqdm(desc=description, total=total, unit=unit, leave=False, disable=None)
        self._lines = not sys.stderr.isatty()
        self._began = self._told = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if kind is None and self._told > self._began:  # who read a line learns that the work has ended
            log.info("%s: all %s in %s", self.description, f"{self.total:,}", spoken(self.seconds))

    @property
    def seconds(self) -> float:
        """Seconds since the work began."""
        return time.monotonic() - self._began

    def update(self, units: int = 1, note: str = "") -> None:
        """Counts units that are done.

        Args:
            units: number of units, at least 0.
            note: words that follow the time left, such as ``loss 4.32``.
        """
        self.done += units
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(units)
        if self._lines and self.done < self.total and time.monotonic() - self._told >= self.every:
            self._told = time.monotonic()
            log.info(
                "%s: %s of %s, %s left%s",
                self.description,
                f"{self.done:,}",
                f"{self.total:,}",
                spoken(self.seconds / self.done * (self.total - self.done)) if self.done else "–",
                f", {note}" if note else "",
            )


def spoken(seconds: float) -> str:
    """Formats a duration as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
