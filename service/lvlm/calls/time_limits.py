"""How long a call waits at one of the models that it may ask."""

from __future__ import annotations

import asyncio

from service.lvlm.calls.call_progress import CallProgress


class TimeLimits:
    """Tells when to stop waiting at one model, while its call may go on.

    Args:
        hard: event loop's time at which the call is cut.
        progress: knows until when a request waits for the call; that may change.
        last: whether no other model can be asked after this one.

    Attributes:
        hard: the same.
    """

    def __init__(self, hard: float, progress: CallProgress, *, last: bool) -> None:
        self.hard = hard
        self._progress = progress
        self._last = last
        self._began = asyncio.get_running_loop().time()

    @property
    def until(self) -> float:
        """Event loop's time at which to stop queueing and trying again: half-way if another can be asked."""
        # Asked anew each time, since a request that joins the call may have more time.
        end = min(self.hard, self._progress.until)
        return end if self._last else (self._began + end) / 2

    @property
    def first_event(self) -> float:
        """Event loop's time at which to give up an attempt that has brought nothing."""
        return self.until if self._progress.awaited and not self._last else self.hard
