"""Runs one worker as a child process, and keeps what the parent knows of it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, suppress
from typing import TypeVar

from service.catalogue.shared_copies import Loans, SharedCopies, open_pair
from service.processes.control_channel import (
    Alive,
    AskSnapshot,
    Channel,
    Failed,
    Message,
    Ready,
    Reload,
    Reloaded,
    open_channel,
)

T = TypeVar("T")

END_SECONDS = 5.0
"""Seconds that a process may take to end after it has closed its channel."""


class StartedWorker:
    """One child process with a worker; made by ``start_worker``.

    Attributes:
        number: place of the worker, from 1; one that is started in its place has the same.
        pid: id of the process.
        reloads: bundles that had been opened anew when it was started.
        version: version of the catalogue that it serves; None until it is ready.
        failed: why it could not start, if it said so.
        silence: ticks of the parent since its last message.
        has_spoken: whether it has sent anything yet.
        killed_for: why the parent killed it; empty if it did not.
    """

    def __init__(
        self,
        number: int,
        process: asyncio.subprocess.Process,
        channel: Channel,
        reloads: int,
        loans: Loans | None = None,
    ) -> None:
        self.number = number
        self.pid = process.pid
        self.reloads = reloads
        self.version: str | None = None
        self.failed: Failed | None = None
        self.silence = 0
        self.has_spoken = False
        self.killed_for = ""
        self._process = process
        self._channel = channel
        self._loans = loans
        self._snapshots: dict[int, asyncio.Future[None]] = {}
        self._reloaded: asyncio.Future[Reloaded | None] | None = None
        self._has_ended = False

    @property
    def is_ready(self) -> bool:
        """Whether it serves."""
        return self.version is not None

    @property
    def name(self) -> str:
        """What the log calls it."""
        return f"worker {self.number} (process {self.pid})"

    def send(self, message: Message) -> None:
        """Sends it a message."""
        self._channel.send(message)

    async def messages(self) -> AsyncIterator[Message]:
        """Yields its messages until it ends; answers to questions reach those who asked."""
        while (message := await self._channel.receive()) is not None:
            self.silence, self.has_spoken = 0, True
            if self._loans is not None and isinstance(message, Ready | Reloaded):
                self._loans.settle(served=message.version is not None)
            yield message
            match message:
                case Alive(answers=number) if number in self._snapshots:
                    _answer(self._snapshots.pop(number), None)
                case Reloaded() if self._reloaded is not None:
                    _answer(self._reloaded, message)
                    self._reloaded = None

    async def ended(self) -> int:
        """Waits for the end of the process, which has closed its channel; returns its exit status."""
        self._has_ended = True
        for future in self._snapshots.values():
            _answer(future, None)
        self._snapshots.clear()
        if self._reloaded is not None:
            _answer(self._reloaded, None)
            self._reloaded = None
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self.kill("it did not end")
        status = await self._process.wait()
        await self._channel.close()
        return status

    async def snapshot(self, number: int) -> None:
        """Asks for its metrics; returns when they have come through ``messages``, or it has ended."""
        if self._has_ended:
            return
        future = self._snapshots[number] = asyncio.get_running_loop().create_future()
        self.send(AskSnapshot(number))
        try:
            await future
        finally:
            self._snapshots.pop(number, None)

    async def reload(self) -> Reloaded | None:
        """Makes it open the bundle anew; returns what came of it, None if it ended."""
        if self._has_ended:  # while another worker was asked
            return None
        self._reloaded = asyncio.get_running_loop().create_future()
        self.send(Reload())
        answer: Reloaded | None = await self._reloaded
        if answer is not None and answer.version is not None:
            self.version = answer.version
        return answer

    def kill(self, reason: str) -> None:
        """Kills the process."""
        self.killed_for = self.killed_for or reason
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def _answer(future: asyncio.Future[T], answer: T) -> None:
    """Gives an answer to who waits for it, unless the wait was given up in this pass of the event loop."""
    if not future.done():
        future.set_result(answer)


async def start_worker(
    number: int,
    listeners: Sequence[socket.socket],
    dataset: str | None,
    reloads: int,
    copies: SharedCopies | None = None,
) -> StartedWorker:
    """Starts a worker.

    Args:
        number: its place, from 1.
        listeners: bound sockets that it shall listen on.
        dataset: data set that its bundle must be of; None for any.
        reloads: bundles that have been opened anew so far.
        copies: copies of the bundle's files that it shares with other workers; None for its own.

    Raises:
        OSError: the system has no room for another process.
    """
    numbers = [listener.fileno() for listener in listeners]
    arguments = ["-m", "service.processes.worker_main", "--listeners", *map(str, numbers)]
    if dataset is not None:
        arguments.append(f"--dataset={dataset}")
    with ExitStack() as theirs, ExitStack() as ours:  # ours are closed if the worker does not start
        control, their_control = socket.socketpair()
        ours.enter_context(control)
        theirs.enter_context(their_control)
        arguments += ["--control", str(their_control.fileno())]
        numbers.append(their_control.fileno())
        lending = None
        if copies is not None:
            lending, asking = open_pair()
            ours.enter_context(lending)
            theirs.enter_context(asking)
            arguments += ["--copies", str(asking.fileno())]
            numbers.append(asking.fileno())
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=numbers,
            process_group=0,  # Ctrl-C in a terminal reaches the parent alone, which tells its workers
        )
        ours.pop_all()
    loans = copies.lend(lending) if copies is not None and lending is not None else None
    return StartedWorker(number, process, await open_channel(control), reloads, loans)
