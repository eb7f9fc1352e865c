"""Runs one worker of several, which the parent starts as ``python -m service.processes.worker_main``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence

from models.contracts import BundleError
from service import logs
from service.catalogue.shared_copies import BorrowedCopies
from service.errors import ConfigurationError
from service.generation import Generation
from service.processes.control_channel import (
    Alive,
    AllMetrics,
    Announce,
    AskMetrics,
    AskSnapshot,
    Channel,
    Degraded,
    Failed,
    Message,
    Ready,
    Reload,
    Stop,
    open_channel,
)
from service.processes.errors import StartFailedError
from service.processes.greeting import greeting
from service.processes.stop_signals import StopTimes
from service.processes.worker import Worker
from service.settings import Settings, read_settings

HEARTBEAT_SECONDS = 1.0
"""Seconds between two signs of life."""
ORPHAN_SECONDS = 5.0
"""Seconds in which a worker finishes what is under way when its parent has died."""

logger = logging.getLogger("service.processes")


class Child:
    """Follows the messages of the parent, and tells it that this worker lives and what it has counted.

    Args:
        settings: settings of the deployment.
        worker: worker that is steered.
        channel: channel to the parent.
    """

    def __init__(self, settings: Settings, worker: Worker, channel: Channel) -> None:
        self._settings = settings
        self._worker = worker
        self._channel = channel
        self._snapshot: bytes | None = None  # what the parent has
        self._expositions: list[asyncio.Future[bytes]] = []  # scrapes that wait for the parent
        self._reload: asyncio.Task[None] | None = None
        worker.metrics.expose_all = self._all_metrics

    async def run(self) -> int:
        """Runs the worker until it is stopped; returns the exit status of the process."""
        tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._beat())]
        try:
            status = 0 if await self._worker.run(self._report_ready) else 1
        except (BundleError, ConfigurationError) as error:
            name = "MSR_BUNDLE: " if isinstance(error, BundleError) else ""
            self._channel.send(Failed(f"{name}{error}", 2))
            status = 2
        except StartFailedError as error:
            self._channel.send(Failed(str(error), error.status))
            status = error.status
        for task in tasks:
            task.cancel()
        self._tell()  # what was counted to the end
        await self._channel.close()
        return status

    def _report_ready(self, generation: Generation) -> None:
        catalogue = generation.catalogue
        text = greeting(self._settings, generation.bundle)
        self._channel.send(Ready(catalogue.manifest.dataset, catalogue.version, text))

    async def _follow(self) -> None:
        while (message := await self._channel.receive()) is not None:
            self._obey(message)
        logger.warning("the parent process has ended: this worker (%d) ends too", os.getpid())
        self._worker.stop(StopTimes.of(ORPHAN_SECONDS, 0))

    def _obey(self, message: Message) -> None:
        match message:
            case Announce():
                self._worker.announce()
            case Stop(seconds):
                self._worker.stop(StopTimes.of(seconds, 0))
            case Reload():
                self._reload = asyncio.create_task(self._reload_bundle())
            case Degraded(parts):
                self._worker.state.degraded.clear()
                self._worker.state.degraded.update(parts)
            case AskSnapshot(number):
                self._tell(answers=number)
            case AllMetrics(text):
                waiting, self._expositions = self._expositions, []
                for future in waiting:
                    if not future.done():
                        future.set_result(text)
            case _:
                raise AssertionError(message)

    async def _reload_bundle(self) -> None:
        self._channel.send(await self._worker.reload())

    async def _beat(self) -> None:
        while True:
            self._tell()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def _tell(self, *, answers: int = 0) -> None:
        """Sends a sign of life, with the metrics if they have changed, unless the parent takes nothing."""
        if self._channel.is_backed_up:
            return
        snapshot = self._worker.metrics.snapshot()
        changed = snapshot != self._snapshot
        self._snapshot = snapshot
        self._channel.send(Alive(snapshot if changed else None, answers))

    async def _all_metrics(self) -> bytes:
        """Returns the exposition of all workers; waits until the parent answers."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._expositions.append(future)
        self._channel.send(AskMetrics())
        return await future


async def _run(settings: Settings, worker: Worker, end: socket.socket) -> int:
    return await Child(settings, worker, await open_channel(end)).run()


def _end_with_parent(end: socket.socket) -> None:
    """Ends the process some seconds after its parent, even if the event loop hangs."""
    poll = select.poll()
    poll.register(end.fileno(), select.POLLHUP | select.POLLRDHUP)
    poll.poll()
    time.sleep(ORPHAN_SECONDS + 2)
    os._exit(1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the worker and returns its exit status: 2 for a wrong setting or bundle."""
    parser = argparse.ArgumentParser(prog="python -m service.processes.worker_main")
    parser.add_argument(
        "--listeners", type=int, nargs="+", required=True, help="file descriptors of bound sockets"
    )
    parser.add_argument(
        "--control", type=int, required=True, help="file descriptor of the channel to the parent"
    )
    parser.add_argument("--copies", type=int, help="file descriptor over which the parent lends copies")
    parser.add_argument("--dataset", help="data set that the bundle must be of")
    options = parser.parse_args(arguments)
    # A service manager signals all processes of a service at once; the parent says what follows from it.
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end = socket.socket(fileno=options.control)
    threading.Thread(target=_end_with_parent, args=(end,), daemon=True).start()
    settings = read_settings()
    logs.configure(settings.log_level, settings.log_format)
    listeners = [socket.socket(fileno=number) for number in options.listeners]
    # Without it, every file is copied for this process alone.
    copies = BorrowedCopies(socket.socket(fileno=options.copies)) if options.copies is not None else None
    worker = Worker(settings, listeners, options.dataset, copies)
    with asyncio.Runner(loop_factory=worker.loop_factory) as runner:
        return runner.run(_run(settings, worker, end))


if __name__ == "__main__":
    sys.exit(main())
