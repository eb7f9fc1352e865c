"""Supervises several workers: starts them, restarts those that die, stops and reloads them together."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

from service.catalogue.shared_copies import IS_AVAILABLE, SharedCopies
from service.metrics import ParentMetrics
from service.outages import Outage
from service.processes.control_channel import (
    Alive,
    Announce,
    AskMetrics,
    Degraded,
    Failed,
    Message,
    Ready,
    Reloaded,
    Stop,
)
from service.processes.errors import StartFailedError
from service.processes.listener import close_for_all, hold_back
from service.processes.reload_report import report
from service.processes.scrapes import Scrapes
from service.processes.simulator import SimulatorProcess
from service.processes.started_worker import StartedWorker, start_worker
from service.processes.stop_signals import StopTimes, steered_by_signals
from service.settings import Settings

TICK_SECONDS = 1.0
SILENT_TICKS, FIRST_TICKS = 30, 120
"""Ticks without a message after which a worker counts as hung: once it has sent one, and before (while Python
starts). Ticks and not seconds: a parent that was stopped for a while has not listened."""
LONGEST_PAUSE = 30.0
"""Seconds between two starts of a worker that keeps dying, at most; the first one comes at once."""
STEADY_SECONDS = 60.0
"""Seconds after which a worker that dies is restarted at once again."""
CLOSED_SECONDS = 1.0
"""Seconds in which workers accept the last connections; then the port is closed, whatever they do."""
END_SECONDS = 5.0
"""Seconds in which the system removes processes that were killed."""
KILL_SECONDS = 0.5
"""Seconds of the time to stop after which workers that still run are killed."""

logger = logging.getLogger("service.processes")


class Parent:
    """Keeps as many workers running as the settings say.

    Args:
        settings: settings of the deployment.
        listeners: bound sockets that all workers listen on.
        simulator: simulator beside the service; None without one.
        say: shows a text on the terminal.
    """

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[socket.socket],
        simulator: SimulatorProcess | None,
        say: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._listeners = listeners
        self._simulator = simulator
        self._say = say
        self._metrics = ParentMetrics()
        self._copies = SharedCopies() if IS_AVAILABLE else None
        self._live: dict[int, StartedWorker] = {}  # by place
        self._unready: list[StartedWorker] = []  # those that ended before any worker was ready
        self._first_ready = asyncio.Event()
        self._dataset: str | None = None
        self._degraded: frozenset[str] = frozenset()
        self._reloads = 0
        self._reload_wanted = asyncio.Event()
        self._scrapes = Scrapes(self._metrics, self._live)
        self._stop: asyncio.Task[bool] | None = None
        self._ending = False  # workers that end are not restarted
        self._over = asyncio.Event()  # nothing is left to be waited for

    async def run(self) -> int:
        """Supervises until a signal stops it; returns the exit status, 0 after a clean stop.

        Raises:
            StartFailedError: no worker could start.
        """
        if self._simulator is not None:
            loop = asyncio.get_running_loop()

            def on_change(runs: bool) -> None:
                loop.call_soon_threadsafe(self._simulator_runs, runs)

            self._simulator.on_change = on_change
        places = range(1, self._settings.workers + 1)
        tasks = [asyncio.create_task(self._keep(number)) for number in places]
        tasks += [asyncio.create_task(self._watch()), asyncio.create_task(self._reload_at_signals())]
        try:
            with steered_by_signals(self):
                over = asyncio.create_task(self._over.wait())
                # A task that ends has failed: none of them returns while the service runs.
                await asyncio.wait((over, *tasks), return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    if task.done() and self._stop is None:
                        task.result()
                if self._stop is not None:
                    return 0 if await self._stop else 1
            raise self._failure()
        finally:
            self._ending = True
            for process in self._live.values():
                process.kill("the parent ends")
            if self._live:
                self._over.clear()
                await self._wait(END_SECONDS)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            close_for_all(self._listeners)

    # Workers

    async def _keep(self, number: int) -> None:
        """Keeps one worker running: starts another one whenever it ends."""
        loop = asyncio.get_running_loop()
        outage, pause = Outage(f"worker {number}", logger, level=logging.ERROR), 0.0
        while True:
            begun = loop.time()
            try:
                process = await start_worker(
                    number, self._listeners, self._dataset, self._reloads, self._copies
                )
            except OSError as error:
                if not self._first_ready.is_set():
                    raise StartFailedError(f"no process can be started: {error.strerror}", 1) from error
                outage.failed("worker %d cannot be started: %s", number, error.strerror)
                await asyncio.sleep(LONGEST_PAUSE)
                continue
            self._live[number] = process
            self._metrics.started(number - 1, process.pid)
            process.send(Degraded(self._degraded))
            async for message in process.messages():
                self._take(process, message)
            status = await process.ended()
            del self._live[number]
            self._metrics.ended(process.pid)
            if self._ending:
                if not self._live:
                    self._over.set()
                await asyncio.Event().wait()  # until it is cancelled
            if not self._first_ready.is_set():
                self._unready.append(process)
                if process.failed is None:
                    logger.error("%s ended (%s) before it was ready", process.name, _why(process, status))
                if len(self._unready) == self._settings.workers:
                    self._over.set()
                await self._first_ready.wait()
            pause = 0.0 if loop.time() - begun > STEADY_SECONDS else pause
            outage.failed("%s ended (%s): it is started again", process.name, _why(process, status))
            self._metrics.restarted(_reason(process))
            await asyncio.sleep(pause)
            pause = min(max(1.0, 2 * pause), LONGEST_PAUSE)

    def _take(self, process: StartedWorker, message: Message) -> None:
        match message:
            case Ready():
                self._note_ready(process, message)
            case Failed():
                process.failed = message
            case Alive(snapshot) if snapshot is not None:
                self._metrics.update(process.pid, snapshot)
            case AskMetrics():
                self._scrapes.answer(process)
            case _:
                pass

    def _note_ready(self, process: StartedWorker, ready: Ready) -> None:
        process.version, self._dataset = ready.version, ready.dataset
        logger.info("%s is ready", process.name)
        if not self._first_ready.is_set():
            self._first_ready.set()
            self._say(ready.greeting)
        others = {other.version for other in self._live.values() if other.version}
        if process.reloads != self._reloads:  # it may have read the bundle before it was changed
            self._reload_wanted.set()
        elif len(others) > 1:
            logger.warning(
                "%s serves version %s of the bundle, others do not: SIGHUP brings all to the one on the disk",
                process.name,
                ready.version,
            )

    def _failure(self) -> StartFailedError:
        for process in self._unready:
            if process.failed is not None:
                return StartFailedError(process.failed.sentence, process.failed.status)
        return StartFailedError("no worker could start: the log says why", 1)

    async def _watch(self) -> None:
        """Kills workers whose event loop hangs."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            for process in self._live.values():
                process.silence += 1
                if process.silence > (SILENT_TICKS if process.has_spoken else FIRST_TICKS):
                    process.kill(f"it was silent for {process.silence} s")

    def _simulator_runs(self, runs: bool) -> None:
        self._degraded = frozenset() if runs else frozenset({"simulator"})
        for process in self._live.values():
            process.send(Degraded(self._degraded))

    # Signals

    def reload(self) -> None:
        """Makes every worker open the bundle anew, one after the other."""
        self._reload_wanted.set()

    async def _reload_at_signals(self) -> None:
        await self._first_ready.wait()
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            # One after the other: a broken bundle is refused by the first, and the others keep theirs.
            answers: list[Reloaded] = []
            ready = [process for _, process in sorted(self._live.items()) if process.is_ready]
            for process in ready:
                if (answer := await process.reload()) is not None:
                    answers.append(answer)
                    if answer.version is None:
                        break
                    self._reloads += len(answers) == 1
                    process.reloads = self._reloads
            if answers:
                report(answers)

    def stop(self, *, announced: bool) -> None:
        """Begins to stop all workers."""
        self._ending = True
        self._stop = asyncio.create_task(self._stop_workers(announced))

    def end(self) -> None:
        """Ends a stop that has begun without waiting for anything."""
        for process in self._live.values():
            process.kill("a second signal came")
        self._over.set()

    async def _stop_workers(self, announced: bool) -> bool:
        """Stops all workers; returns whether all of them ended in time."""
        times = StopTimes.of(self._settings.stop_s, self._settings.drain_s if announced else 0.0)
        end = asyncio.get_running_loop().time() + times.total
        processes = list(self._live.values())
        if not processes:
            self._over.set()
        for process in processes:
            if process.is_ready:
                process.send(Announce())
            else:
                process.kill("it was starting")
        await self._wait(times.drain)
        hold_back(self._listeners)
        left = max(0.0, end - asyncio.get_running_loop().time() - KILL_SECONDS)
        for process in self._live.values():
            process.send(Stop(left))
        await self._wait(min(CLOSED_SECONDS, left))
        # A worker that hangs would keep the port open, and connections waiting.
        close_for_all(self._listeners)
        await self._wait(end - asyncio.get_running_loop().time())
        in_time = not any(process.is_ready for process in self._live.values())
        for process in self._live.values():
            process.kill("the time to stop was over")
        if not in_time:
            logger.warning("workers did not end in time and were killed")
        await self._wait(KILL_SECONDS)
        self._over.set()
        killed = [process for process in processes if process.is_ready and process.killed_for]
        return in_time and not killed

    async def _wait(self, seconds: float) -> None:
        """Waits until all workers have ended, or for a time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()


def _why(process: StartedWorker, status: int) -> str:
    """Returns why a process ended, for the log."""
    if process.failed is not None:
        return process.failed.sentence
    if process.killed_for:
        return process.killed_for
    return f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"


def _reason(process: StartedWorker) -> str:
    """Returns why a process ended, for the metrics."""
    if process.killed_for:
        return "silent"
    return "exited" if process.is_ready else "start"
