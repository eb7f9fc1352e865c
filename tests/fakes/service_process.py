"""Starts the real service as a child process, by ``python -m service``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from redis_process import free_port

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class RunningService:
    """A service that is ready.

    Attributes:
        url: address of the service.
        process: its main process.
        output: file with its standard output and error.
    """

    url: str
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def log(self) -> str:
        return self.output.read_text(errors="replace")

    def children(self, word: str) -> list[int]:
        """Returns the ids of its child processes whose command line holds this word."""
        found = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                of_thread = (task / "children").read_text().split()
            except FileNotFoundError:  # the thread has ended since
                continue
            found += [int(pid) for pid in of_thread if word in Path(f"/proc/{pid}/cmdline").read_text()]
        return found

    @property
    def workers(self) -> list[int]:
        """The ids of its worker processes, where it has several."""
        return self.children("service.processes.worker_main")

    @contextmanager
    def silent_simulator(self) -> Iterator[None]:
        """Suspends the simulator that the service has started, until the block ends."""
        (pid,) = self.children("service.simulator")
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def start_service(
    bundle: Path, environment: Mapping[str, str] | None = None, **settings: str
) -> Iterator[RunningService]:
    """Runs ``python -m service`` with ``MSR_<NAME>`` for each keyword, and stops it at the end.

    Args:
        bundle: folder of the bundle to serve.
        environment: other variables of the process, by their whole names.
        settings: settings of the service without ``MSR_``; API keys by their whole names.
    """
    port = free_port()
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MSR_", "OPENAI_", "ANTHROPIC_"))
    }
    variables |= {"MSR_PORT": str(port), "MSR_BUNDLE": str(bundle), "MSR_SIMULATOR_PROFILE": "instant"}
    variables |= {"MSR_DRAIN_S": "0"}  # no proxy watches it
    variables |= {
        f"MSR_{name.upper()}": value for name, value in settings.items() if not name.endswith("_API_KEY")
    }
    variables |= {name: value for name, value in settings.items() if name.endswith("_API_KEY")}
    variables |= environment or {}
    with tempfile.NamedTemporaryFile(suffix=".log") as output, tempfile.TemporaryDirectory() as data:
        variables.setdefault("MSR_DATA", data)
        process = subprocess.Popen(
            [sys.executable, "-m", "service"], env=variables, cwd=ROOT, stdout=output, stderr=output
        )
        service = RunningService(f"http://127.0.0.1:{port}", process, Path(output.name))
        try:
            _wait(service)
            yield service
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            sys.stdout.write(service.log)  # a part of the test's own output, for who reads a failure


def _wait(service: RunningService) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if service.process.poll() is not None:
            raise RuntimeError(f"the service stopped with {service.process.returncode}:\n{service.log}")
        try:
            if httpx.get(f"{service.url}/health/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError(f"the service did not become ready:\n{service.log}")
