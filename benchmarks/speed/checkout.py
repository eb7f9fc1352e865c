"""Checks out another commit of this repository into a folder of its own, and runs benchmarks in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.errors import BenchmarkError

RUN_TIMEOUT = 300.0
"""Seconds that one run of a benchmark may take; a longer one is stopped and reported."""
STOP_TIMEOUT = 20.0
"""Seconds for a benchmark to stop its own servers after an interrupt; then it is killed."""


@contextmanager
def checked_out(repository: Path, commit: str) -> Iterator[Path]:
    """Checks out a commit into a temporary folder, which is removed again however the block ends.

    Raises:
        BenchmarkError: the repository has no such commit.
    """
    try:
        found = _git(
            repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}"
        )
    except BenchmarkError as error:
        raise BenchmarkError(
            f"{commit!r} is no commit of {repository}: name one that is, or fetch it"
        ) from error
    # The work tree is a folder named after the commit, since the page shows that name.
    with tempfile.TemporaryDirectory(prefix="msr-compare-") as folder:
        tree = Path(folder, found[:12])
        try:
            _git(repository, "worktree", "add", "--quiet", "--detach", str(tree), found)
            yield tree
        finally:
            # --force, because a run leaves untracked files, such as bytecode.
            _git(repository, "worktree", "remove", "--force", str(tree))


def page_of(tree: Path, name: str, options: Sequence[str]) -> str:
    """Runs a benchmark of a work tree with that tree's own code, and returns the page that it prints.

    Its processes are a group of their own: when this process is interrupted, so is the benchmark, which stops
    the servers that it has started.

    Args:
        tree: folder of a checkout.
        name: public name of the command, the same in every commit.
        options: command line options of the command.

    Raises:
        BenchmarkError: the benchmark fails or takes too long; the message ends with the last line it printed.
    """
    process = None
    try:
        with _interrupts_deferred():
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks", name, *options],
                cwd=tree,
                # PYTHONPATH comes before an editable install, which names another checkout.
                env={**os.environ, "PYTHONPATH": str(tree)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        page, printed = process.communicate(timeout=RUN_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"{name} was not done after {RUN_TIMEOUT:g} s") from error
    finally:
        if process is not None:
            _stop(process)
    if (
        process.returncode not in (0, 1) or not page
    ):  # 1 with a page: measured, one of its own limits is broken
        last = printed.strip().splitlines()
        raise BenchmarkError(f"{name} failed: {last[-1] if last else 'it gave no reason'}")
    return page


@contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Defers SIGINT and SIGTERM to the end of the block, so that a process just started can be stopped."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: received.append(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])


def _stop(process: subprocess.Popen[str]) -> None:
    # SIGINT first, on which a benchmark stops its servers.
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            try:
                process.communicate(timeout=STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                continue


def _git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(
        ("git", "-C", str(repository), *arguments),  # noqa: S607 - the git on the PATH is the one wanted
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise BenchmarkError(f"git {arguments[0]} failed: {said[-1] if said else 'it gave no reason'}")
    return done.stdout.strip()
