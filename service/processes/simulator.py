"""Runs the simulator as a child process beside the service, so that trying the service needs no API key."""

from __future__ import annotations

import json
import logging
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from service.errors import ConfigurationError
from service.outages import Outage
from service.settings import Settings

ADDRESS_VARIABLE = "MSR_SIMULATOR_URL"
"""Environment variable, and setting, with the address of the simulator."""
START_SECONDS = 15.0
"""Seconds that the simulator may take to print its address; after that the start is given up."""
LONGEST_PAUSE = 30.0
"""Seconds between two starts of a simulator that keeps dying, at most; the first one comes at once."""

# What an interpreter needs. An allow-list: keys have whatever names a deployment gives them.
_INHERITED = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ", "VIRTUAL_ENV")
_INHERITED_PREFIXES = ("LC_", "PYTHON", "SSL_", "OPENBLAS_", "OMP_")

logger = logging.getLogger("service.processes")


@contextmanager
def simulator_beside(settings: Settings) -> Iterator[SimulatorProcess | None]:
    """Runs one simulator, unless a real provider or another simulator is configured.

    Its address goes into ``MSR_SIMULATOR_URL``, where worker processes read it as a setting.

    Raises:
        ConfigurationError: the simulator did not start.
    """
    if not settings.simulated or settings.simulator_url:
        yield None
        return
    simulator = SimulatorProcess(settings.simulator_profile)
    try:
        os.environ[ADDRESS_VARIABLE] = simulator.url
        yield simulator
    finally:
        os.environ.pop(ADDRESS_VARIABLE, None)
        simulator.stop()


class SimulatorProcess:
    """A simulator that is started again, on the same port, whenever it ends; the first one is running.

    Args:
        profile: how long its answers take.

    Attributes:
        on_change: called from a thread with whether the simulator runs, when that changes.
        url: address of the simulator.

    Raises:
        ConfigurationError: it did not start.
    """

    def __init__(self, profile: str) -> None:
        self.on_change: Callable[[bool], None] = lambda _: None
        self._profile = profile
        self._stopped = threading.Event()
        self._process = self._launched(port=0)
        try:
            self.url = _address_of(self._process)
        except ConfigurationError:
            _stop(self._process)
            raise
        threading.Thread(target=self._watch, name="simulator", daemon=True).start()

    def stop(self) -> None:
        """Ends the simulator for good."""
        self._stopped.set()
        _stop(self._process)

    def _watch(self) -> None:
        outage, pause = Outage("the simulator", logger), 0.0
        while True:
            begun = time.monotonic()
            status = self._process.wait()
            if self._stopped.is_set():
                return
            self.on_change(False)
            outage.failed("the simulator ended (%s): it is started again", _how(status))
            pause = pause if time.monotonic() - begun < LONGEST_PAUSE else 0.0
            if self._stopped.wait(pause):
                return
            pause = min(max(1.0, 2 * pause), LONGEST_PAUSE)
            _close(self._process)
            try:
                self._process = self._launched(port=urlsplit(self.url).port or 0)
            except OSError as error:  # no memory or no process for it now; the ended one is waited for again
                outage.failed("the simulator cannot be started: %s", error.strerror)
                continue
            if self._stopped.is_set():  # `stop` may have seen the process before this one
                _stop(self._process)
                return
            try:
                _address_of(self._process)
            except ConfigurationError:
                _stop(self._process)
            else:
                logger.info("the simulator runs again")
                self.on_change(True)

    def _launched(self, port: int) -> subprocess.Popen[str]:
        command = ["-m", "service.simulator", "--profile", self._profile, "--port", str(port)]
        return subprocess.Popen(
            # It ends when its standard input does: the pipe closes even if this process is killed by SIGKILL.
            [sys.executable, *command, "--die-with-parent"],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # Ctrl-C stops the service, which still needs its simulator for a moment
        )


def _environment() -> dict[str, str]:
    """Returns the variables that the simulator inherits: none that may hold a key."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _close(process)


def _close(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()


def _how(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"


def _address_of(process: subprocess.Popen[str]) -> str:
    """Reads the address from the first line that the simulator prints: a JSON object with ``url``."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        line = process.stdout.readline() if selector.select(START_SECONDS) else ""
    try:
        return str(json.loads(line)["url"])  # an empty line: nothing came in time, or the process has ended
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError(
            "the simulator did not start: `python -m service.simulator` shows why; or set MSR_SIMULATOR_URL"
        ) from None
