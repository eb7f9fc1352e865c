"""Runs one worker in this process: the application and its server, from their start to the end of a stop."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from models.contracts import BundleError
from service.catalogue.file_copies import FileCopies
from service.errors import ConfigurationError
from service.generation import Generation
from service.http.process_state import ProcessState
from service.http.services import Services
from service.metrics import Metrics
from service.processes.control_channel import Reloaded
from service.processes.listener import refusal
from service.processes.server import StoppableServer
from service.processes.stop_signals import StopTimes
from service.settings import Settings
from service.wiring.application import create_app
from service.wiring.reload import check_dataset, reload_bundle
from service.wiring.server import server_config

logger = logging.getLogger("service.processes")

END_SECONDS = 1.0
"""Seconds in which stores and providers are closed when a stop shall wait for nothing."""


class Worker:
    """Serves the application until it is told to stop.

    Args:
        settings: settings of the deployment.
        listeners: bound sockets, which it listens on and closes.
        dataset: data set that the bundle must be of; None for any.
        copies: makes the copies of the bundle's large files; None for copies of this process alone.

    Attributes:
        metrics: metrics that this worker counts in.
        state: what the application is told of this process, and given by it.
        loop_factory: makes the event loop that it is run in.
    """

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[socket.socket],
        dataset: str | None = None,
        copies: FileCopies | None = None,
    ) -> None:
        self.metrics = Metrics()
        self.state = ProcessState(copies=copies)
        self._settings = settings
        self._dataset = dataset
        self._app = create_app(settings, self.metrics, self.state)
        config = server_config(settings, self._app, self.metrics)
        self.loop_factory = config.get_loop_factory()
        self._server = StoppableServer(config, listeners)
        self._serving: asyncio.Task[None] | None = None
        self._stopping: asyncio.Future[tuple[float, StopTimes]] | None = None  # set when it has to stop
        self._ended = asyncio.Event()  # it shall stop without waiting for anything
        self._ready = self._in_time = False

    async def run(self, on_ready: Callable[[Generation], None]) -> bool:
        """Serves until it is stopped; returns whether it closed everything in time.

        Args:
            on_ready: called with the generation once it listens.

        Raises:
            BundleError: the bundle does not open.
            ConfigurationError: a setting does not fit the bundle, or the port cannot be listened on.
            StartFailedError: another process has begun to listen on the port.
        """
        self._stopping = asyncio.get_running_loop().create_future()
        self._serving = asyncio.create_task(self._serve(self._stopping, on_ready))
        await asyncio.wait({self._serving})
        if not self._serving.cancelled():
            self._serving.result()
        elif self._ready:
            logger.warning("the time to stop was over before everything was closed")
        return self._in_time or not self._ready

    async def _serve(
        self,
        stopping: asyncio.Future[tuple[float, StopTimes]],
        on_ready: Callable[[Generation], None],
    ) -> None:
        # One task enters and leaves it: task groups and timeouts inside belong to their task.
        async with self._app.router.lifespan_context(self._app):
            # No variable holds the generation: it would stay in memory when another one is swapped in.
            current = self._services.generation
            if self._dataset is not None:
                check_dataset(current.get(), self._dataset)
            try:
                await self._server.start()
            except OSError as error:
                raise refusal(error, self._settings.host, self._settings.port) from error
            self._ready = True
            on_ready(current.get())
            begun, times = await stopping
            with suppress(TimeoutError):
                async with asyncio.timeout_at(begun + times.drain):
                    await self._ended.wait()
            await self._server.close_listeners()
            await self._server.finish(begun + times.requests)
        self._in_time = True

    def announce(self) -> None:
        """Says on ``/health/ready`` that it is about to stop, and answers everything all the same."""
        self.state.draining = True
        self._server.announce()

    def stop(self, times: StopTimes) -> None:
        """Begins to stop: announces it, takes no more connections, finishes what is under way and closes all.

        Args:
            times: times of the steps, from now.
        """
        assert self._serving is not None
        assert self._stopping is not None
        if not self._ready:
            _exit_after(END_SECONDS, 0)  # a thread that opens a large bundle is not waited for
            self._serving.cancel()
        elif not self._stopping.done():
            loop = asyncio.get_running_loop()
            self.announce()
            self._stopping.set_result((loop.time(), times))
            loop.call_later(times.total, self._serving.cancel)
            _exit_after(times.total + END_SECONDS, 1)

    def end(self) -> None:
        """Ends a stop that has begun without waiting for requests or calls."""
        assert self._serving is not None
        self._server.force_exit = True
        self._ended.set()
        asyncio.get_running_loop().call_later(END_SECONDS, self._serving.cancel)
        _exit_after(2 * END_SECONDS, 1)

    async def reload(self) -> Reloaded:
        """Opens the bundle anew, if it is one that can be served in the place of the present one."""
        try:
            generation = await reload_bundle(self._settings, self._services)
        except (BundleError, ConfigurationError) as error:
            return Reloaded(None, str(error))
        except Exception as error:  # whatever the disk holds, this bundle is served on
            logger.exception("the bundle cannot be opened")
            return Reloaded(None, f"{type(error).__name__}: {error}")
        return Reloaded(generation.catalogue.version)

    @property
    def _services(self) -> Services:
        services: Services = self._app.state.services
        return services


def _exit_after(seconds: float, status: int) -> None:
    """Ends the process after a time, whatever its event loop and threads are doing then."""
    timer = threading.Timer(seconds, os._exit, (status,))
    timer.daemon = True
    timer.start()
