"""Runs the simulator as a child process beside the service, so that nothing needs a key to be tried."""

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

VARIABLE = "MSR_SIMULATOR_URL"
START_SECONDS = 15.0
"""Seconds that the simulator may take to print its address; after that the start is given up."""


@contextmanager
def simulator_beside(settings: Settings) -> Iterator[None]:
    """Runs one simulator, unless a real provider or another simulator is configured.

    Its address goes into ``MSR_SIMULATOR_URL``, where worker processes and later readers find it.

    Raises:
        ConfigurationError: it did not start.
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
            "--die-with-parent",  # it reads the end of its standard input, also after SIGKILL
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        os.environ[VARIABLE] = _simulator_url(process)
        yield
    finally:
        os.environ.pop(VARIABLE, None)
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
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        line = process.stdout.readline() if selector.select(START_SECONDS) else ""
    try:
        return str(json.loads(line)["url"])
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError(
            "the simulator did not start: `python -m service.simulator` shows why; or set MSR_SIMULATOR_URL"
        ) from None
