"""Starts the simulator as a process of its own, which tests call over a real socket."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@contextmanager
def start_simulator(*, profile: str = "instant", **options: str | float | bool) -> Iterator[str]:
    """Runs ``python -m service.simulator`` on a free loopback port and yields its URL.

    Args:
        profile: ``instant`` (no waiting), ``fast`` or ``paper``.
        options: other command line options by name: ``ttft=0.1`` is ``--ttft=0.1``, ``True`` a bare flag.
    """
    flags = [
        f"--{name.replace('_', '-')}{'' if value is True else f'={value}'}" for name, value in options.items()
    ]
    command = [sys.executable, "-m", "service.simulator", "--profile", profile, "--die-with-parent", *flags]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY)
    with process:  # waits, and closes the pipes
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            if not ready:
                raise RuntimeError(
                    f"the simulator did not start, see its stderr; command: {' '.join(command)}"
                )
            yield json.loads(ready)["url"]
        finally:
            process.terminate()
