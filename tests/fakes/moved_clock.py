"""A clock that a test moves, and an event loop that follows it: waiting is exact and takes no real time.

The functions of the module ``time`` are replaced at import. So this module is imported before the service,
whose modules may hold ``time.monotonic`` and others by name. While no test moves the clock, they return the
real time.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import selectors
import socket
import struct
import termios
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any

BEGIN = {"monotonic": 1_000.0, "perf_counter": 2_000.0, "time": 1_781_526_600.0}
"""First values of the clocks, in seconds; the date is 2026-06-15 12:30, so that no test crosses an hour."""

PATIENCE = 1.0
"""Real seconds that bytes between two sockets of one loop may take; then the clock is moved all the same."""


class MovedClock:
    """The clocks of a process, and the seconds by which they were moved."""

    def __init__(self) -> None:
        self.moved = 0.0

    def move(self, seconds: float) -> None:
        """Moves all clocks forward."""
        self.moved += seconds

    def read(self, name: str) -> float:
        """Returns the value of a function of the module ``time``, by its name."""
        return BEGIN[name] + self.moved

    def now(self) -> float:
        """Returns the event loop's time."""
        return self.read("monotonic")


class MovedLoop(asyncio.SelectorEventLoop):
    """Moves the clock to its next timer as soon as it has nothing else to do.

    It does not while a thread works for the loop, or while bytes are on their way between two of its sockets.
    It cannot know what other processes do: a test with other processes uses the real time.
    """

    def __init__(self, clock: MovedClock) -> None:
        self._clock, self._outside = clock, 0
        super().__init__(_Selector(self, selectors.DefaultSelector()))  # type: ignore[arg-type]

    def time(self) -> float:
        return self._clock.now()

    def close(self) -> None:
        super().close()
        give_back()

    def move(self, seconds: float) -> None:
        self._clock.move(seconds)

    @property
    def waits_for_a_thread(self) -> bool:
        return self._outside > 0

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> Any:
        return self.awaits(super().run_in_executor(executor, func, *args))  # type: ignore[type-var]

    async def shutdown_default_executor(self, *timeout: Any) -> None:
        self._outside += 1
        await super().shutdown_default_executor(*timeout)
        self._outside -= 1

    def awaits(self, future: asyncio.Future[Any]) -> asyncio.Future[Any]:
        """Stops the clock until a future is done that a thread completes."""
        self._outside += 1
        future.add_done_callback(self._came_back)
        return future

    def _came_back(self, _: Any) -> None:
        self._outside -= 1


class _Selector:
    """Selects sockets as the real selector does, but moves the clock instead of waiting for a timer."""

    def __init__(self, loop: MovedLoop, real: selectors.BaseSelector) -> None:
        self._loop, self._real = loop, real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def select(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        if ready := self._real.select(0 if timeout is None or timeout > 0 else timeout):
            return ready
        if timeout is None or (timeout > 0 and self._loop.waits_for_a_thread):
            return self._real.select(None)
        if timeout > 0:
            if ready := self._arriving():
                return ready
            self._loop.move(timeout)
        return []

    def _arriving(self) -> list[tuple[selectors.SelectorKey, int]]:
        """The sockets that become ready by bytes that are still on their way."""
        keys: Mapping[Any, selectors.SelectorKey] = self._real.get_map()
        end = _real["monotonic"]() + PATIENCE
        while len(keys) > 1:  # one is the loop's own
            if ready := self._real.select(0.001):
                return ready
            for key in keys.values():
                _acknowledge(key)
            if not any(map(_on_its_way, keys.values())) or _real["monotonic"]() > end:
                break
        return []


def _acknowledge(key: selectors.SelectorKey) -> None:
    """Acknowledges what a socket has received at once, which Linux delays by up to 40 ms."""
    if hasattr(socket, "TCP_QUICKACK"):
        connection = socket.socket(fileno=key.fd)
        with contextlib.suppress(OSError):  # the loop's own is none of TCP's
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        connection.detach()


def _on_its_way(key: selectors.SelectorKey) -> bool:
    """Whether a socket is connecting, or its peer has not received all that was sent."""
    if key.events & selectors.EVENT_WRITE:
        return True
    unsent = bytearray(4)
    with contextlib.suppress(OSError):  # one that only listens
        fcntl.ioctl(key.fd, termios.TIOCOUTQ, unsent)
    return struct.unpack("i", unsent)[0] > 0


_current: MovedClock | None = None
_real: dict[str, Callable[[], float]] = {name: getattr(time, name) for name in BEGIN}


def taken() -> MovedClock:
    """Returns the clock of the running test, which all functions of ``time`` follow from now on."""
    global _current  # noqa: PLW0603 - there is one time for all
    _current = _current or MovedClock()
    return _current


def give_back() -> None:
    """Ends the moved time: all functions return the real time again."""
    global _current  # noqa: PLW0603
    _current = None


def new_loop() -> MovedLoop:
    """Returns an event loop for a test that moves the clock."""
    return MovedLoop(taken())


def _following(name: str) -> Callable[[], float]:
    real = _real[name]

    def read() -> float:
        return real() if _current is None else _current.read(name)

    return read


def _wrap_future(future: Any, **options: Any) -> asyncio.Future[Any]:
    wrapped: asyncio.Future[Any] = asyncio.futures.wrap_future(future, **options)
    loop = wrapped.get_loop()
    return loop.awaits(wrapped) if isinstance(loop, MovedLoop) else wrapped


for _name in BEGIN:
    setattr(time, _name, _following(_name))
asyncio.wrap_future = _wrap_future  # type: ignore[assignment]
