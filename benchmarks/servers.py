"""Starts the servers that are compared, one worker each, on one core, with the load generator on another."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.errors import BenchmarkError

START_SECONDS = 60.0


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def own_core() -> Iterator[set[int] | None]:
    """Keep this process on its last core while the block runs; yields the first one, for a server.

    Yields None where there are not two cores or the system cannot pin: then nothing is pinned.
    """
    if not hasattr(os, "sched_setaffinity") or len(allowed := os.sched_getaffinity(0)) < 2:
        yield None
        return
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield {min(allowed)}
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def running(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], port: int, cores: set[int] | None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``python -m module`` until the block ends.

    Args:
        module: to run.
        arguments: of the module.
        environment: added to this process's.
        port: that the server will listen on.
        cores: to pin it to; None for no pinning.

    Raises:
        BenchmarkError: it does not start to listen; the sentence ends with its last words.
    """
    with started(module, ["-m", module, *arguments], environment, port, cores=cores) as process:
        yield process


@contextmanager
def started(
    name: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    port: int,
    *,
    cores: set[int] | None = None,
    output: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python program that listens until the block ends.

    Args:
        name: for the sentence that says that it did not start.
        arguments: of the interpreter.
        environment: added to this process's.
        port: that the server will listen on.
        cores: to pin it to; None for no pinning.
        output: file for what it prints; None keeps it only for that sentence.

    Raises:
        BenchmarkError: it does not start to listen; the sentence ends with its last words.
    """

    def pin() -> None:
        if cores is not None:
            os.sched_setaffinity(0, cores)

    # A file, since a pipe that is not read would stop a server that logs.
    with tempfile.TemporaryFile() if output is None else output.open("w+b") as words:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment},
            stdout=words,
            stderr=words,
            preexec_fn=pin,  # noqa: PLW1509 - no thread is running yet
        )
        try:
            if not _listens(process, port):
                words.seek(0)
                said = words.read().decode(errors="replace").strip().splitlines()
                raise BenchmarkError(f"{name} did not start: {said[-1] if said else 'it gave no reason'}")
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the process listens; False when it ended or took too long."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False
