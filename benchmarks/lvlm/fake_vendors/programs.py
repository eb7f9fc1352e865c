"""Fake vendors whose behaviour the model's name chooses: programs of their own, started as they are.

A folder with ``fake_openai.py`` and ``fake_anthropic.py``, each run as ``program PORT``. The behaviours are
the names that its source compares the model with; each request is a line of its log.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab import machine
from benchmarks.lab.servers import free_port, started, url_of

FOLDER = machine.ROOT.parent / "shared" / "faults"
"""Beside the repository, where there is one."""

GOOD = "good"
PROGRAMS = {"openai": "fake_openai.py", "anthropic": "fake_anthropic.py"}
"""Wire -> file name."""
MODES = ("plain", "stream")
"""How the service asks (``MSR_LVLM_STREAM``)."""

_NAMED = re.compile(r'(?:case|get\("model"\) ==) "([a-z0-9-]+)"')
_LOGGED = re.compile(r"POST \S+ HTTP/1\.1 (\S+) ")


@dataclass(frozen=True)
class Cell:
    """One behaviour of one fake, as the service asks it in one mode."""

    wire: str
    behaviour: str
    mode: str

    def __str__(self) -> str:
        return f"{self.wire} {self.behaviour}, {self.mode}"


@dataclass(frozen=True)
class Fake:
    """A running one.

    Attributes:
        wire: whose format it speaks.
        url: without a path.
        log: of its requests, one a line.
    """

    wire: str
    url: str
    log: Path

    def calls(self) -> Counter[str]:
        """Requests so far, by behaviour."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return Counter(model for line in lines if (model := _model(line)))


def present(folder: Path) -> bool:
    """Whether both programs are there."""
    return all((folder / name).is_file() for name in PROGRAMS.values())


def behaviours(folder: Path, wire: str) -> tuple[str, ...]:
    """Every name that changes what the program does, in the order of its source; the good one first."""
    source = (folder / PROGRAMS[wire]).read_text(encoding="utf-8")
    return tuple(dict.fromkeys([GOOD, *_NAMED.findall(source)]))


def add_fake_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the fakes are, and which of their behaviours are tried."""
    parser.add_argument(
        "--fakes", type=Path, default=FOLDER, help="folder of the fakes (default: %(default)s)"
    )
    parser.add_argument("--only", help="comma-separated behaviours (default: all)")


def cells_of(arguments: argparse.Namespace) -> list[Cell]:
    """Every behaviour of both fakes in both modes, or those that ``--only`` names."""
    wanted = set(arguments.only.split(",")) if arguments.only else None
    return [
        Cell(wire, behaviour, mode)
        for wire in PROGRAMS
        for behaviour in behaviours(arguments.fakes, wire)
        for mode in MODES
        if wanted is None or behaviour in wanted
    ]


def missing(arguments: argparse.Namespace) -> bool:
    """Whether there are no fakes to ask, which is said on stderr."""
    if present(arguments.fakes):
        return False
    sys.stderr.write(f"no fake vendors in {arguments.fakes}: name their folder with --fakes\n")
    return True


@contextmanager
def running_fakes(folder: Path) -> Iterator[Mapping[str, Fake]]:
    """Run both, by wire, on free ports until the block ends.

    Raises:
        BenchmarkError: one does not start.
    """
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield {wire: stack.enter_context(running_fake(folder, wire, logs)) for wire in PROGRAMS}


@contextmanager
def running_fake(folder: Path, wire: str, logs: Path) -> Iterator[Fake]:
    """Run one on a free port until the block ends.

    Args:
        folder: of the program.
        wire: which of them.
        logs: a folder for its log.

    Raises:
        BenchmarkError: it does not start.
    """
    port = free_port()
    log = printed = logs / f"{wire}-{port}.out"
    program = [str(folder / PROGRAMS[wire]), str(port)]
    if wire == "openai":  # takes a file for its log; the other one prints it
        log = logs / f"{wire}-{port}.log"
        program.append(str(log))
    with started(PROGRAMS[wire], program, {}, port, output=printed):
        yield Fake(wire, url_of(port), log)


def _model(line: str) -> str | None:
    """The model that a line of a log names; None for what is no request."""
    if found := _LOGGED.match(line):
        return found[1]
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record.get("model") if isinstance(record, dict) else None
