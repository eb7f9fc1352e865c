from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.errors import BenchmarkError
from benchmarks.lab.stats import median_interval
from benchmarks.speed.compare_commits import Speed, speed_table
from benchmarks.speed.short_runs import SHORT_RUNS, Figure, read
from models import machine

RESULTS = Path(machine.ROOT, "benchmarks", "results")
RATE = Figure("rate", {}, "per second", more_is_better=True)
TIME = Figure("time", {}, "ms")

COMMITTED = {
    "http: requests/s at 32 connections": 1185,
    "candidates: ms per user": 2.799,
    "stage: own ms, s3, simulator": 2.48,
    "stage: own ms, s3, simulator-anthropic": 2.75,
    "stage: own ms, s5, simulator": 0.90,
    "stage: own ms, s5, simulator-anthropic": 0.83,
}

PAGE = """
print("| server   | connections | requests/s |")
print("| -------- | ----------: | ---------: |")
print("| bare app |          32 |       2000 |")
print("| service  |          32 |       {rate} |")
"""

REFUSES = """
import sys
sys.exit("benchmarks http: the servers recommend different items")
"""

RUNS_UNTIL_STOPPED = """
import os, time
started = os.environ["STARTED"]
try:
    open(started, "w").close()
    time.sleep(60)
except KeyboardInterrupt:
    os.rename(started, started + ".stopped")
"""


def speed(figure: Figure, ratios: list[float]) -> Speed:
    ours = [100 * r if figure.more_is_better else 100 / r for r in ratios]
    return Speed(figure, [100.0] * len(ratios), ours)


@pytest.fixture
def repository(tmp_path: Path) -> Callable[[str, str], Path]:
    """Makes a repository whose one commit and whose work tree have a benchmark each."""

    def make(committed: str, now: str) -> Path:
        root = tmp_path / "repository"
        program = root / "benchmarks" / "__main__.py"
        program.parent.mkdir(parents=True)
        program.write_text(committed)
        for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "base"]):
            who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
            subprocess.run(["git", "-C", str(root), *who, *arguments], check=True)
        program.write_text(now)
        return root

    return make


def work_trees(root: Path) -> int:
    listed = subprocess.run(
        ["git", "-C", str(root), "worktree", "list"], capture_output=True, text=True, check=True
    )
    return len(listed.stdout.splitlines())


@pytest.mark.parametrize("name", SHORT_RUNS)
def test_every_figure_is_read_from_the_committed_page(name: str) -> None:
    page = (RESULTS / f"{name}.md").read_text()
    for figure in SHORT_RUNS[name].figures:
        assert read(page, figure) == COMMITTED[figure.name]


@pytest.mark.parametrize("cell", ["–", "0.00", "none"])
def test_a_page_without_the_figure_is_refused(cell: str) -> None:
    page = f"| way | ms |\n| --- | --: |\n| ours | {cell} |\n"
    with pytest.raises(BenchmarkError, match=r"no 'ms' in the row \{'way': 'ours'\}"):
        read(page, Figure("time", {"way": "ours"}, "ms"))


def test_the_interval_of_the_median_is_the_fourth_value_from_each_end_of_fifteen() -> None:
    assert median_interval([*range(15, 0, -1)]) == (4, 12)
    assert median_interval([*range(6)]) == (0, 5)
    with pytest.raises(ValueError, match="too few"):
        median_interval([1.0] * 5)


def test_the_interval_holds_the_median_at_least_95_times_in_100_even_of_skewed_values() -> None:
    draws = np.random.default_rng(0).exponential(size=(4000, 15))
    intervals = [median_interval(row.tolist()) for row in draws]
    held = sum(low <= np.log(2) <= high for low, high in intervals) / len(intervals)
    assert 0.955 < held < 0.975  # 0.9648 by the binomial distribution


@pytest.mark.parametrize("figure", [RATE, TIME])
@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([0.9] * 15, "slower"),
        ([0.96] * 12 + [2.0] * 3, "slower"),  # three runs that something else made quick change nothing
        ([0.96] * 11 + [0.98] * 4, "not shown to be slower"),
        ([0.98] * 15, "not shown to be slower"),
        ([0.8] * 8 + [1.2] * 7, "not shown to be slower"),
        ([1.1] * 15, "faster"),
    ],
)
def test_slower_means_that_the_whole_interval_lies_below_the_margin(
    figure: Figure, ratios: list[float], verdict: str
) -> None:
    found = speed(figure, ratios)
    assert found.ratios == pytest.approx(ratios)
    assert found.verdict == verdict


def test_the_table_shows_both_and_the_ratio_with_its_interval() -> None:
    (row,) = speed_table([Speed(TIME, [2.0] * 15, [2.5] * 15)]).rows
    assert row == ("time", "2", "2.5", "0.800", "0.800–0.800", "slower")


@pytest.mark.parametrize(("now", "code"), [("1900", 1), ("2000", 0)])
def test_a_commit_runs_its_own_code_and_a_slower_work_tree_is_the_exit_code(
    repository: Callable[[str, str], Path],
    now: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = repository(PAGE.format(rate="2000"), PAGE.format(rate=now))
    monkeypatch.setattr(machine, "ROOT", root)
    assert main(["compare", "--base", "HEAD", "--pairs", "6", "--benchmarks", "http"]) == code
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if line.startswith("| http"))
    assert [cell.strip() for cell in row.split("|")][2:4] == ["2000", now]
    assert work_trees(root) == 1


@pytest.mark.parametrize(
    ("committed", "base", "sentence"),
    [
        (REFUSES, "HEAD", "base: http failed: benchmarks http: the servers recommend different items"),
        ("print('no table')", "HEAD", "base: the page shows no 'requests/s'"),
        ("", "nowhere", "'nowhere' is no commit of"),
        ("", "", "'' is no commit of"),
    ],
)
def test_what_fails_is_a_sentence_and_leaves_no_work_tree(
    repository: Callable[[str, str], Path],
    committed: str,
    base: str,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = repository(committed, PAGE.format(rate="1"))
    monkeypatch.setattr(machine, "ROOT", root)
    assert main(["compare", "--base", base, "--benchmarks", "http"]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.strip().count("\n") == 0
    assert work_trees(root) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_comparison_stops_the_benchmark_and_removes_the_work_tree(
    repository: Callable[[str, str], Path], tmp_path: Path, number: signal.Signals
) -> None:
    root = repository(RUNS_UNTIL_STOPPED, "")
    started = tmp_path / "started"
    program = (
        "import pathlib, sys; from benchmarks import __main__; from models import machine; "
        f"machine.ROOT = pathlib.Path({str(root)!r}); "
        "sys.exit(__main__.main(['compare', '--base', 'HEAD', '--benchmarks', 'http']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(machine.ROOT), "STARTED": str(started)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not started.exists():
        assert process.poll() is None, process.communicate()[1]
    process.send_signal(number)
    assert "benchmarks compare: stopped" in process.communicate()[1]
    assert process.returncode == 130
    assert (tmp_path / "started.stopped").exists()
    assert work_trees(root) == 1


def test_too_few_pairs_are_refused_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--base", "HEAD", "--pairs", "5"]) == 2
    assert "an interval needs at least 6" in capsys.readouterr().err
