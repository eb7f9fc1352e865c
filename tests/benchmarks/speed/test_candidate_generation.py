from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.errors import BenchmarkError
from benchmarks.speed.candidate_generation import (
    BUNDLE,
    EAGER,
    EAGER_LAST,
    PLAIN,
    PLAIN_LAST,
    check_same_items,
    timing_table,
    verdicts,
)
from models.bundle.whole_model_export import TopK

HISTORIES = [np.array([1, 2], dtype=np.int32)]


def answers(rows: list[int], scores: list[float]) -> TopK:
    return lambda history: (np.array(rows), np.array(scores, dtype=np.float32))


def test_every_way_answers_the_same_items_and_is_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = [
        "--items",
        "200",
        "--dimension",
        "16",
        "--length",
        "5",
        "-k",
        "7",
        "--users",
        "5",
        "--rounds",
        "2",
    ]
    assert main(["candidates", "--random", *size, "--markdown", str(tmp_path / "c.md")]) == 0
    page = (tmp_path / "c.md").read_text()
    assert page == capsys.readouterr().out
    assert "100.0 % of the answers are equal item by item" in page
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 5
    assert all(float(row[2]) > 0 for row in rows)
    assert float(rows[0][3]) == 1
    given = f"--random {' '.join(size)} --markdown {tmp_path / 'c.md'}"
    assert f"- command: `python -m benchmarks candidates {given}`" in page


def test_other_items_are_refused() -> None:
    ways = {"a": answers([5, 6, 7], [3, 2, 1]), "b": answers([5, 6, 8], [3, 2, 0.5])}
    with pytest.raises(BenchmarkError, match=r"score the best items after .* differently"):
        check_same_items(ways, HISTORIES)


def test_an_item_in_the_middle_that_is_left_out_is_refused_even_when_the_scores_agree() -> None:
    ways = {"a": answers([5, 6, 7], [3, 2, 1]), "b": answers([5, 8, 7], [3, 2, 1])}
    with pytest.raises(BenchmarkError, match=r"leaves out the items \[6\]"):
        check_same_items(ways, HISTORIES)


def test_items_that_rounding_swaps_are_the_same() -> None:
    ways = {
        "a": answers([5, 6, 7], [3, 2, 2]),
        "b": answers([5, 7, 6], [3, 2, 2]),
        "c": answers([5, 6, 8], [3, 2, 2]),
    }
    assert check_same_items(ways, HISTORIES) == 0.0
    assert check_same_items({"a": ways["a"], "again": ways["a"]}, HISTORIES) == 1.0


def test_ratios_are_taken_within_a_round() -> None:
    table = timing_table({BUNDLE: [1.0, 10.0, 1.0], EAGER: [3.0, 20.0, 4.0]})
    assert [row[1:] for row in table.rows] == [
        ("1.000", "1.00", "1.00–1.00"),
        ("4.000", "3.00", "2.00–4.00"),
    ]


def test_only_the_whole_models_decide_whether_the_limits_are_met() -> None:
    others = {EAGER_LAST: [0.1], PLAIN_LAST: [0.1]}
    met, lost = (
        {BUNDLE: [1.0], EAGER: [eager], PLAIN: [plain], **others} for eager, plain in ((2, 1), (1.9, 0.9))
    )
    assert verdicts(met).count(", met") == 2
    assert "not met" not in verdicts(met)
    assert verdicts(lost).count("not met") == 2
    assert "extra opponents" in verdicts(met)


def test_a_folder_without_weights_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["candidates", "--run", str(tmp_path)]) == 2
    assert "no trained weights in" in capsys.readouterr().err


def test_more_answers_than_items_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["candidates", "--random", "--items", "10", "--dimension", "4"]) == 2
    assert "there are 10 items and -k is 30" in capsys.readouterr().err
