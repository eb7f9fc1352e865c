"""Turns signals into the steps of a stop, and SIGHUP into a reload."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

CLOSING_SECONDS = 1.5
"""Seconds of the time to stop that are kept for closing stores and providers, after the requests."""


@dataclass(frozen=True, slots=True)
class StopTimes:
    """When a stop reaches its steps, in seconds from its beginning.

    Attributes:
        drain: end of the announcement.
        requests: end of the requests under way.
        total: end of the process.
    """

    drain: float
    requests: float
    total: float

    @classmethod
    def of(cls, total: float, drain: float) -> StopTimes:
        """Returns the times of a stop that takes at most ``total`` seconds, announced for ``drain``."""
        requests = max(0.0, total - CLOSING_SECONDS)
        return cls(min(drain, requests), requests, total)


class Stoppable(Protocol):
    """What the signals of a process steer."""

    def stop(self, *, announced: bool) -> None:
        """Begins to stop, with an announcement first or at once."""
        ...

    def end(self) -> None:
        """Ends a stop that has begun without waiting for anything."""
        ...

    def reload(self) -> None:
        """Opens the bundle anew."""
        ...


@contextmanager
def steered_by_signals(target: Stoppable) -> Iterator[None]:
    """Hands the signals of this process to a target while the block runs, in its event loop.

    SIGTERM and SIGQUIT stop with an announcement, SIGINT without one; a second signal ends the stop. SIGHUP
    reloads, unless it came because the terminal was closed.
    """
    loop = asyncio.get_running_loop()
    begun = False
    in_terminal = _has_terminal()

    def stop(announced: bool) -> None:
        nonlocal begun
        if begun:
            target.end()
        else:
            begun = True
            target.stop(announced=announced)

    def hang_up() -> None:
        if in_terminal and not _has_terminal():
            stop(announced=False)
        else:
            target.reload()

    loop.add_signal_handler(signal.SIGTERM, stop, True)
    loop.add_signal_handler(signal.SIGQUIT, stop, True)
    loop.add_signal_handler(signal.SIGINT, stop, False)
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)  # the process is ending, with the status of this stop


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:  # there is none, or not any more (tty(4))
        return False
    return True
