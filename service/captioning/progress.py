"""How far a run is, on one line."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

BAR = 24
FAILURES_NAMED = 20


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        wanted: images without a caption when it began.
        written: captions written.
        cost_usd: of all calls so far, those with a known price.
        failures: item id -> why it has no caption.
    """

    wanted: int
    written: int = 0
    cost_usd: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        """Images that are through, in whatever way."""
        return self.written + len(self.failures)

    @property
    def line(self) -> str:
        """Bar, count, rate, cost so far, time left."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        rate = self.done / seconds
        left = _clock((self.wanted - self.done) / rate) if rate else "–"
        full = BAR * self.done // max(1, self.wanted)
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return (
            f"{'█' * full}{'░' * (BAR - full)} {self.done}/{self.wanted} images, {rate:.1f}/s, "
            f"${self.cost_usd:.4f}, {left} left{failed}"
        )

    def show(self) -> None:
        """The line, replacing itself on a terminal; now and then a line of its own elsewhere."""
        if sys.stderr.isatty():
            self.tell(f"\r{self.line}\x1b[K", end="")
        elif self.done % 100 == 0 or self.done == self.wanted:
            self.tell(self.line)

    def tell(self, text: str, end: str = "\n") -> None:
        """Write to the terminal, if it is still there."""
        try:
            sys.stderr.write(text + end)
            sys.stderr.flush()
        except OSError:  # it has gone with the parent; the work goes on
            pass

    def summarise(self, where: str) -> None:
        """The last words of a run."""
        if sys.stderr.isatty():
            self.tell("")
        self.tell(
            f"{self.written} captions written to {where}, {len(self.failures)} failed, ${self.cost_usd:.4f}"
        )
        for item_id, reason in list(self.failures.items())[:FAILURES_NAMED]:
            self.tell(f"  {item_id}: {reason}")
        if len(self.failures) > FAILURES_NAMED:
            self.tell(f"  and {len(self.failures) - FAILURES_NAMED} more")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
