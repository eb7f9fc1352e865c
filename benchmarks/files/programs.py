"""Runs the programs of the folder of faults, which make odd files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.errors import BenchmarkError


def program(faults: Path, name: str) -> Path:
    """Returns the path of a program.

    Args:
        faults: folder of the programs.
        name: path of the program below it.

    Raises:
        BenchmarkError: it is missing.
    """
    path = faults / name
    if not path.is_file():
        raise BenchmarkError(f"{faults} has no {name}: name the folder of faults with --faults")
    return path


def run_program(faults: Path, name: str, *arguments: Path | str) -> None:
    """Runs a program to its end.

    Raises:
        BenchmarkError: it is missing or fails.
    """
    command = [sys.executable, "-B", str(program(faults, name)), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise BenchmarkError(f"{' '.join([name, *map(str, arguments)])} failed: {last}")
