"""Serves with one worker, in this process, without a parent."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence

from service.generation import Generation
from service.processes.greeting import greeting
from service.processes.reload_report import report
from service.processes.simulator import SimulatorProcess
from service.processes.stop_signals import StopTimes, steered_by_signals
from service.processes.worker import Worker
from service.settings import Settings

logger = logging.getLogger("service.processes")


def serve_alone(
    settings: Settings,
    listeners: Sequence[socket.socket],
    simulator: SimulatorProcess | None,
    say: Callable[[str], None],
) -> int:
    """Serves until a signal stops it; returns the exit status, 0 after a clean stop.

    Args:
        settings: settings of the deployment.
        listeners: bound sockets, which it listens on and closes.
        simulator: simulator beside the service; None without one.
        say: shows a text on the terminal.

    Raises:
        BundleError: the bundle does not open.
        ConfigurationError: a setting does not fit the bundle.
        StartFailedError: another process has begun to listen on the port.
    """
    worker = Worker(settings, listeners)
    if simulator is not None:
        down = worker.state.degraded
        simulator.on_change = lambda runs: down.discard("simulator") if runs else down.add("simulator")
    with asyncio.Runner(loop_factory=worker.loop_factory) as runner:
        return runner.run(_Alone(settings, worker, say).run())


class _Alone:
    """Steers the only worker by the signals of this process; see ``Stoppable``."""

    def __init__(self, settings: Settings, worker: Worker, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._worker = worker
        self._say = say
        self._wanted = asyncio.Event()  # a reload

    async def run(self) -> int:
        reloading = None

        def ready(generation: Generation) -> None:
            nonlocal reloading
            self._say(greeting(self._settings, generation.bundle))
            reloading = asyncio.create_task(self._reload())

        with steered_by_signals(self):
            in_time = await self._worker.run(ready)
        if reloading is not None:
            reloading.cancel()
        return 0 if in_time else 1

    def stop(self, *, announced: bool) -> None:
        drain = self._settings.drain_s if announced else 0.0
        self._worker.stop(StopTimes.of(self._settings.stop_s, drain))

    def end(self) -> None:
        self._worker.end()

    def reload(self) -> None:
        self._wanted.set()

    async def _reload(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            report((await self._worker.reload(),))
