"""Starts the servers that are measured, reads their memory, and stops them again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError

HOST = "127.0.0.1"
START_SECONDS = 60.0
"""Seconds until a server listens; one that takes longer is stopped and reported."""
STOP_SECONDS = 15
"""Seconds for a server to end after SIGTERM; then it is killed."""


@dataclass(frozen=True)
class RunningService:
    """A service that is running.

    Attributes:
        port: TCP port on the loopback interface.
        process: main process of the service, whose memory can be read.
    """

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Address of the service, without a path."""
        return url_of(self.port)

    def resident_bytes(self) -> int | None:
        """Returns the resident memory in bytes; None on a system without ``/proc``."""
        return self._status("VmRSS")

    def peak_resident_bytes(self) -> int | None:
        """Returns the highest resident memory so far in bytes; None on a system without ``/proc``."""
        return self._status("VmHWM")

    def reset_peak(self) -> bool:
        """Resets the peak to the present resident memory; returns whether the system can."""
        try:
            # proc_pid_clear_refs(5): 5 resets VmHWM to the current resident set.
            Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="ascii")
        except OSError:
            return False
        return True

    def _status(self, field: str) -> int | None:
        """Returns a field of Linux's ``/proc/<pid>/status`` in bytes; the file has kB."""
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        except OSError:
            return None
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def url_of(port: int) -> str:
    """Returns the address of a server on the loopback interface, without a path."""
    return f"http://{HOST}:{port}"


def free_port() -> int:
    """Finds a TCP port of the loopback interface that is not in use; another process may still take it."""
    with socket.socket() as probe:  # port 0 makes the system choose one
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def own_core() -> Iterator[set[int] | None]:
    """Pins this process to its last core while the block runs; yields its first core, for a server.

    With one core, or on a system that cannot pin processes, it yields None and pins nothing.
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
def running_service(
    bundle: Path, settings: Mapping[str, str], cores: set[int] | None = None
) -> Iterator[RunningService]:
    """Runs a service on a free port until the block ends.

    It has one worker, no API key, no Redis, and a data folder of its own unless the settings say otherwise.

    Args:
        bundle: folder that it serves.
        settings: environment variables over those; what neither names comes from this process's environment.
        cores: cores to pin it to; None for no pinning.

    Raises:
        BenchmarkError: it does not start to listen.
    """
    port = free_port()
    common = {
        "MSR_BUNDLE": str(bundle),
        "MSR_HOST": HOST,
        "MSR_PORT": str(port),
        "MSR_WORKERS": "1",
        "MSR_API_KEY": "",
        "MSR_REDIS_URL": "",
        "MSR_EVENTS_URL": "",
        "MSR_DRAIN_S": "0",  # no proxy watches it
    }
    with running("service", [], {**common, **settings}, port, cores) as process:
        yield RunningService(port, process)


@contextmanager
def running(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], port: int, cores: set[int] | None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs ``python -m module`` until the block ends.

    Args:
        module: dotted name of the module.
        arguments: command line of the module.
        environment: variables added to this process's.
        port: TCP port that the server will listen on.
        cores: cores to pin it to; None for no pinning.

    Raises:
        BenchmarkError: it does not start to listen; the message ends with the last line it printed.
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
    """Runs a Python program that listens, until the block ends.

    Args:
        name: name of the program in the error message.
        arguments: command line of the interpreter.
        environment: variables added to this process's.
        port: TCP port that the server will listen on.
        cores: cores to pin it to; None for no pinning.
        output: file for what it prints; None for a temporary one.

    Raises:
        BenchmarkError: it does not start to listen; the message ends with the last line it printed.
    """

    # Runs in the child between fork and exec: the server's threads inherit the cores.
    def pin() -> None:
        if cores is not None:
            os.sched_setaffinity(0, cores)

    # A file and no pipe: a pipe that is not read fills up, and a server that logs would wait for ever.
    with (
        tempfile.TemporaryFile() if output is None else output.open("w+b") as printed,
        tempfile.TemporaryDirectory(prefix="msr-benchmark-") as data,
    ):
        process = subprocess.Popen(
            [sys.executable, *arguments],
            # numpy's BLAS counts the host's cores, also in a container with fewer.
            # Nothing that is measured is kept with this account's own data.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "MSR_DATA": data, **environment},
            stdout=printed,
            stderr=printed,
            preexec_fn=pin,  # noqa: PLW1509 - no thread is running yet
        )
        try:
            if not _listens(process, port):
                printed.seek(0)
                lines = printed.read().decode(errors="replace").strip().splitlines()
                raise BenchmarkError(f"{name} did not start: {lines[-1] if lines else 'it gave no reason'}")
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Waits until the process listens; returns False when it has ended or takes too long."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False
