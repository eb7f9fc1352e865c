"""Runs the simulator as a child process beside the service, so that trying the service needs no API key."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import ConfigurationError
from service.settings import Settings

ADDRESS_VARIABLE = "MSR_SIMULATOR_URL"
"""Environment variable, and setting, with the address of the simulator."""
START_SECONDS = 15.0
"""Seconds that the simulator may take to print its address; after that the start is given up."""


@contextmanager
def simulator_beside(settings: Settings) -> Iterator[None]:
    """Runs one simulator, unless a real provider or another simulator is configured.

    Its address goes into ``MSR_SIMULATOR_URL``, where worker processes read it as a setting.

    Raises:
        ConfigurationError: the simulator did not start.
    """
    if not settings.simulated or settings.simulator_url:
        yield
        return
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "service.simulator",
            "--profile",
            settings.simulator_profile,
            # It ends when its standard input does: the pipe closes even if this process is killed by SIGKILL.
            "--die-with-parent",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        os.environ[ADDRESS_VARIABLE] = _simulator_url(process)
        yield
    finally:
        os.environ.pop(ADDRESS_VARIABLE, None)
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()


def _simulator_url(process: subprocess.Popen[str]) -> str:
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
