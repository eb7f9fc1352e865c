"""Runs a command in a process of its own and measures its time and its memory at the peak."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# The system counts a process' peak from its parent's size at the start: this small one stands in between.
_STARTER = """
import json, os, subprocess, sys, time
begun = time.monotonic()
process = subprocess.Popen(sys.argv[2:])
_, status, used = os.wait4(process.pid, 0)
seconds = [time.monotonic() - begun, used.ru_utime + used.ru_stime]
open(sys.argv[1], "w").write(json.dumps([os.waitstatus_to_exitcode(status), *seconds, used.ru_maxrss]))
"""


@dataclass(frozen=True)
class MeasuredRun:
    """A command that has ended.

    Attributes:
        status: its exit status.
        output: what it printed.
        errors: what it printed to standard error.
        seconds: seconds from its start to its end.
        processor_seconds: seconds of processor time.
        peak_bytes: resident memory at its peak.
    """

    status: int
    output: str
    errors: str
    seconds: float
    processor_seconds: float
    peak_bytes: int


def run_measured(command: Sequence[str], environment: Mapping[str, str] | None = None) -> MeasuredRun:
    """Runs a command to its end.

    Args:
        command: program and arguments.
        environment: its environment; None for this process's.
    """
    with tempfile.TemporaryDirectory(prefix="msr-measured-") as scratch:
        record = Path(scratch, "record")
        done = subprocess.run(
            [sys.executable, "-S", "-c", _STARTER, str(record), *command],
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            check=True,
        )
        status, seconds, processor_seconds, peak = json.loads(record.read_text(encoding="utf-8"))
    # Linux tells kilobytes, macOS bytes.
    peak_bytes = peak if sys.platform == "darwin" else peak * 1024
    return MeasuredRun(status, done.stdout, done.stderr, seconds, processor_seconds, peak_bytes)
