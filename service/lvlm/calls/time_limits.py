"""Divides the time of a call among the models that it may ask."""

from __future__ import annotations

import asyncio

from service.lvlm.calls.call_progress import CallProgress


class TimeLimits:
    """Tells when to stop waiting at one model; the call may then go on at the next.

    Args:
        call_end: event loop's time, in seconds, at which the call is cut.
        progress: progress of the call, with the time until which a request waits; it may change.
        last: whether no other model can be asked after this one.

    Attributes:
        call_end: event loop's time at which the call is cut.
    """

    def __init__(self, call_end: float, progress: CallProgress, *, last: bool) -> None:
        self.call_end = call_end
        self._progress = progress
        self._last = last
        self._began = asyncio.get_running_loop().time()

    @property
    def until(self) -> float:
        """Event loop's time at which to stop waiting and retrying; half-way if another model can be asked."""
        # Computed at each use, since a request that joins the call may have more time.
        end = min(self.call_end, self._progress.until)
        return end if self._last else (self._began + end) / 2

    @property
    def first_event(self) -> float:
        """Event loop's time at which to give up an attempt that has brought no event."""
        return self.until if self._progress.awaited and not self._last else self.call_end
