"""Reads small data sets with one oddity each by ``python -m models data``, and compares what came of them."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.files.outcome import Outcome, problems_of
from benchmarks.files.programs import run_program
from benchmarks.lab.measured_run import run_measured
from models.bundle.catalogue import read_catalogue
from models.contracts import BundleError
from models.data.dataset import Dataset
from models.evaluation import DrawnCandidates
from models.printed_table import NO_VALUE
from models.training.baselines import baseline_metrics

GOOD = "plain"
"""Name of the case without an oddity."""

NOTES = ("left out", "skipped", "changed")
"""Beginnings of the lines of the table that say what became of a record."""


@dataclass(frozen=True)
class Maker:
    """A program that makes odd data sets, a folder for each case.

    Attributes:
        kind: layout of the data sets.
        program: name of its file.
        same: cases that hold the same histories as the good one, in another form.
    """

    kind: str
    program: str
    same: frozenset[str]


MAKERS = (
    Maker(
        "Amazon Review Plus",
        "make_plus.py",
        frozenset(
            (
                *("surrogate-title", "nan-title", "html-title", "huge-title", "dup-in-history"),
                *("crlf", "bom", "bom-json", "comma"),
            )
        ),
    ),
    Maker(
        "McAuley's files",
        "make_mcauley.py",
        frozenset(
            (
                *("dups-same-time", "float-time", "text-time", "ms-time", "python-literal", "literal-nan"),
                *("one-array", "plain-named-gz", "v2018", "latin1", "meta-dup", "no-meta-for-half"),
                *("meta-title-missing", "percent-image", "bad-line"),
            )
        ),
    ),
)


def read_all(faults: Path) -> Iterator[Outcome]:
    """Yields what becomes of every case of every layout, the good one of each first.

    Raises:
        BenchmarkError: a program of the folder is missing or fails, or a good data set cannot be read.
    """
    for maker in MAKERS:
        with tempfile.TemporaryDirectory(prefix="msr-files-") as scratch:
            folder, bundles = Path(scratch, "data"), Path(scratch, "bundles")
            run_program(faults, maker.program, folder)
            good = read(maker.kind, folder / GOOD, bundles / GOOD, None)
            if good.outcome != "read":
                raise BenchmarkError(f"the good data set of {maker.program} cannot be read: {good.sentence}")
            expected = histories(read_catalogue(bundles / GOOD))
            yield good
            for case in sorted(path.name for path in folder.iterdir() if path.name != GOOD):
                found = read(maker.kind, folder / case, bundles / case, good)
                yield _compared(found, bundles / case, expected) if case in maker.same else found
    with tempfile.TemporaryDirectory(prefix="msr-files-") as scratch:
        run_program(faults, "make_pictures.py", Path(scratch, "data"))
        found = read("pictures", Path(scratch, "data"), Path(scratch, "bundle"), good)
        yield found
        if found.outcome == "read":
            yield from _pictures(read_catalogue(Path(scratch, "bundle")))


def read(kind: str, folder: Path, bundle: Path, good: Outcome | None) -> Outcome:
    """Reads one data set with ``python -m models data`` in a process of its own.

    Args:
        kind: layout, for the outcome.
        folder: folder of the data set.
        bundle: folder of the bundle to write.
        good: outcome of the good data set, which limits are above; None for the good one itself.
    """
    command = [sys.executable, "-m", "models", "data", "--data", str(folder), "--bundle", str(bundle)]
    done = run_measured(command, {**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    seconds, memory = done.seconds, done.peak_bytes
    problems = problems_of(done.output + done.errors, seconds, memory, good)
    if done.status:
        last = (done.errors.strip().splitlines() or ["it gave no reason"])[-1]
        refused = last.removeprefix("error: ").replace(f"{folder}/", "").replace(str(folder), folder.name)
        if not last.startswith("error: ") and not problems:
            problems = (f"ended with status {done.status}",)
        return Outcome(kind, folder.name, "refused", refused, "", seconds, memory, problems)
    lines = (" ".join(line.split()) for line in done.output.splitlines() if line.startswith(NOTES))
    value = _figures(read_catalogue(bundle))
    return Outcome(kind, folder.name, "read", "; ".join(lines), value, seconds, memory, problems)


def histories(dataset: Dataset) -> dict[str, list[str]]:
    """Returns the item ids of each user's history."""
    return {
        user: [dataset.items[row].item_id for row in rows]
        for user, rows in zip(dataset.users, dataset.histories, strict=True)
    }


def _compared(found: Outcome, bundle: Path, expected: dict[str, list[str]]) -> Outcome:
    """Adds a problem to an outcome whose data set should hold the histories of the good one."""
    if found.outcome != "read":
        problem = "refused, though everything in it can be read"
    else:
        try:
            right = histories(read_catalogue(bundle)) == expected
        except BundleError as error:
            right, problem = False, str(error)
        else:
            problem = "other histories than the good data set has"
        if right:
            return found
    return Outcome(**{**vars(found), "problems": (*found.problems, problem)})


def _figures(dataset: Dataset) -> str:
    """Writes the counts and N@5 of Pop in percent, which changes with any history or candidate."""
    counts = f"{len(dataset.users)} users, {dataset.interactions} interactions"
    source = DrawnCandidates(dataset.histories, len(dataset.items))
    share = baseline_metrics(dataset, source)["Pop"]["N@5"]
    return f"{counts}, N@5 {NO_VALUE if share is None else f'{100 * share:.2f}'}"


def _pictures(dataset: Dataset) -> Iterator[Outcome]:
    """Yields a row for each odd picture: the title of its item names it."""
    for item in dataset.items:
        if item.title and not item.title.startswith("Item number"):
            yield Outcome("pictures", item.title, "shown" if item.image else "no picture")
