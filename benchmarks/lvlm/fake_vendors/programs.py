"""Starts the fake vendors, programs whose behaviour the model's name chooses, and reads their logs.

They are ``fake_openai.py`` and ``fake_anthropic.py`` in one folder, each run as ``program PORT``. The names
of the behaviours are read from the source of a program; each request is one line of its log.
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

from benchmarks.lab.servers import free_port, started, url_of
from models import machine

FOLDER = machine.ROOT.parent / "shared" / "faults"
"""Folder of the fake vendors unless ``--fakes`` names another; it may be missing."""

GOOD = "good"
"""Name of the behaviour of a healthy vendor."""
PROGRAMS = {"openai": "fake_openai.py", "anthropic": "fake_anthropic.py"}
"""File name of the program, by wire format."""
MODES = ("plain", "stream")
"""Whether the service asks for a plain answer or a stream (``MSR_LVLM_STREAM``)."""

# The sources name a behaviour in a case of a match, or in a comparison of the model.
_NAMED = re.compile(r'(?:case|get\("model"\) ==) "([a-z0-9-]+)"')
# One program logs lines of text, the other JSON.
_LOGGED = re.compile(r"POST \S+ HTTP/1\.1 (\S+) ")


@dataclass(frozen=True)
class BehaviourCell:
    """One behaviour of one fake vendor, asked in one mode.

    Attributes:
        wire: wire format, a key of ``PROGRAMS``.
        behaviour: name of the model, which chooses the behaviour.
        mode: one of ``MODES``.
    """

    wire: str
    behaviour: str
    mode: str

    def __str__(self) -> str:
        return f"{self.wire} {self.behaviour}, {self.mode}"


@dataclass(frozen=True)
class FakeVendor:
    """A fake vendor that is running.

    Attributes:
        wire: wire format of the program.
        url: address of the program, without a path.
        log: file with a line for each of its requests.
    """

    wire: str
    url: str
    log: Path

    def calls(self) -> Counter[str]:
        """Counts the requests so far, by behaviour."""
        # Read anew each time: the program appends while it runs.
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return Counter(model for line in lines if (model := _model(line)))


def present(folder: Path) -> bool:
    """Returns whether the folder has both programs."""
    return all((folder / name).is_file() for name in PROGRAMS.values())


def behaviours(folder: Path, wire: str) -> tuple[str, ...]:
    """Lists the behaviours that the program's source names, in its order, the good one first."""
    source = (folder / PROGRAMS[wire]).read_text(encoding="utf-8")
    return tuple(dict.fromkeys([GOOD, *_NAMED.findall(source)]))


def add_fake_vendor_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options for the folder of the fake vendors and for the behaviours that are tried."""
    parser.add_argument(
        "--fakes", type=Path, default=FOLDER, help="folder of the fakes (default: %(default)s)"
    )
    parser.add_argument("--only", help="comma-separated behaviours (default: all)")


def cells_of(arguments: argparse.Namespace) -> list[BehaviourCell]:
    """Lists every behaviour of both fake vendors in both modes, or those that ``--only`` names."""
    wanted = set(arguments.only.split(",")) if arguments.only else None
    return [
        BehaviourCell(wire, behaviour, mode)
        for wire in PROGRAMS
        for behaviour in behaviours(arguments.fakes, wire)
        for mode in MODES
        if wanted is None or behaviour in wanted
    ]


def missing(arguments: argparse.Namespace) -> bool:
    """Returns whether the fake vendors are missing, and then says so on standard error."""
    if present(arguments.fakes):
        return False
    sys.stderr.write(f"no fake vendors in {arguments.fakes}: name their folder with --fakes\n")
    return True


@contextmanager
def running_fake_vendors(folder: Path) -> Iterator[Mapping[str, FakeVendor]]:
    """Runs both fake vendors on free ports until the block ends, and yields them by wire format.

    Raises:
        BenchmarkError: one does not start.
    """
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield {wire: stack.enter_context(running_fake_vendor(folder, wire, logs)) for wire in PROGRAMS}


@contextmanager
def running_fake_vendor(folder: Path, wire: str, logs: Path) -> Iterator[FakeVendor]:
    """Runs one fake vendor on a free port until the block ends.

    Args:
        folder: folder of the program.
        wire: wire format of the program.
        logs: folder for its log.

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
        yield FakeVendor(wire, url_of(port), log)


def _model(line: str) -> str | None:
    """Reads the model that a line of a log names; None for a line that is no request."""
    if found := _LOGGED.match(line):
        return found[1]
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record.get("model") if isinstance(record, dict) else None
