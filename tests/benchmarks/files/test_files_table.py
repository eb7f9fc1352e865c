"""Tests of the table of odd files, with programs written on the spot and the folder of faults where it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.files import bundles, data_sets
from benchmarks.files.command import page
from benchmarks.files.outcome import Outcome, problems_of

FAULTS = Path(os.environ.get("MSR_TEST_FAULTS", "../shared/faults"))
GOOD = Outcome("layout", "plain", "read", seconds=1.0, memory=100_000_000)


@pytest.mark.parametrize(
    ("output", "seconds", "memory", "problems"),
    [
        ("error: one line is wrong", 2.0, 150_000_000, ()),
        ("Traceback (most recent call last):\n  …", 2.0, 100_000_000, ("a traceback",)),
        ("", 12.0, 100_000_000, ("11 s more than a good file",)),
        ("", 1.0, 500_000_000, ("400 MB more than a good file",)),
    ],
)
def test_a_traceback_and_what_takes_too_much_are_problems(
    output: str, seconds: float, memory: int, problems: tuple[str, ...]
) -> None:
    assert problems_of(output, seconds, memory, GOOD) == problems


def test_the_page_names_every_case_and_what_is_wrong() -> None:
    outcomes = [
        GOOD,
        Outcome("layout", "odd", "refused", "a line | is wrong"),
        Outcome("bundles", "bad", "served", "it said", problems=("a traceback",)),
    ]
    text = page(outcomes, "python -m benchmarks files")
    assert "### layout" in text
    assert "a line \\| is wrong" in text
    assert text.endswith("3 cases, not as they must be: 1\n- bundles, bad: a traceback\n")


def test_a_folder_without_the_programs_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"has no make_plus\.py"):
        next(data_sets.read_all(tmp_path))
    with pytest.raises(BenchmarkError, match=r"has no break_bundle\.py"):
        next(bundles.serve_all(tmp_path, tmp_path))


MAKER = """
import json, sys, pathlib
for case, more in {"plain": "", "dup-in-history": " 1", "crlf": " 2"}.items():
    folder = pathlib.Path(sys.argv[1], case)
    folder.mkdir(parents=True)
    ids = {str(n): f"X{n}" for n in range(1, 41)}
    (folder / "datamaps.json").write_text(json.dumps({"id2user": {"1": "U1"}, "id2item": ids}))
    (folder / "item2side.json").write_text("{}")
    (folder / "sequential.txt").write_text(f"1 1 3 4 5{more}\\n")
"""


def test_a_data_set_that_is_read_as_another_one_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "make_plus.py").write_text(MAKER, encoding="utf-8")
    found = data_sets.read_all(tmp_path)
    plain, changed, same = next(found), next(found), next(found)
    assert (plain.outcome, plain.problems) == ("read", ())
    assert (changed.case, changed.problems) == ("crlf", ("other histories than the good data set has",))
    assert (same.case, same.problems, same.value) == ("dup-in-history", (), plain.value)
    assert "changed interactions" in same.sentence


BREAKER = """
import pathlib, shutil, sys
shutil.copytree(sys.argv[1], sys.argv[2])
match sys.argv[3]:
    case "untouched": ""
    case "no-items": pathlib.Path(sys.argv[2], "catalogue/items.jsonl").unlink()
"""


@pytest.mark.slow
def test_a_broken_bundle_is_served_or_refused_with_a_sentence(tmp_path: Path, bundle_folder: Path) -> None:
    (tmp_path / bundles.BREAKER).write_text(BREAKER)
    untouched, missing = bundles.serve_all(tmp_path, bundle_folder)
    assert (untouched.outcome, untouched.problems) == ("served", ())
    assert (missing.outcome, missing.problems) == ("refused", ())
    assert "items.jsonl is missing" in missing.sentence


@pytest.mark.slow
@pytest.mark.skipif(not FAULTS.is_dir(), reason=f"no folder of faults at {FAULTS} (MSR_TEST_FAULTS)")
def test_every_odd_data_set_is_read_right_or_refused_with_a_sentence() -> None:
    assert [each for each in data_sets.read_all(FAULTS) if each.problems] == []
