"""The command ``table`` on a data set named as one of the paper's, with configurations of two epochs."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from graph_family import TinyGraph
from small_data import write_amazon_plus

from models.__main__ import main
from models.comparison import comparison, targets
from models.comparison.stored_ranks import FILE
from models.networks.registry import FAMILIES
from models.training.run import Run
from models.training.test_log import TEST_LOG

SASREC = """
family = "sasrec"
[network]
dimension = 8
length = 5
blocks = 1
heads = 1
dropout = 0.0
[tower]
modalities = ["id"]
fusion = "sum"
hidden = 8
dropout = 0.0
[training]
seed = 1
epochs = 2
patience = 2
positions = 64
learning_rate = 0.01
weight_decay = 0.0
negatives = 10
log_q = false
temperature = 1.0
"""
GRAPH = """
family = "graph"
[network]
dimension = 8
layers = 2
[training]
seed = 1
epochs = 2
patience = 2
learning_rate = 0.01
weight_decay = 0.0
batch = 32
"""
ITEMS = 120

Table = Callable[..., int]


@pytest.fixture(autouse=True)
def configurations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "configs"
    folder.mkdir()
    for name in ("sasrec", "sasrec-paper"):
        (folder / f"{name}.toml").write_text(SASREC)
    pictures = SASREC.replace('"sasrec"', '"morec"').replace('"id"', '"image"')
    (folder / "morec-i.toml").write_text(pictures)
    monkeypatch.setattr("models.training.config.CONFIGS", folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Items without pictures, and sixty users who step through them."""
    histories = [[str((7 * user + step) % ITEMS + 1) for step in range(4 + user % 7)] for user in range(60)]
    side = {str(item): {"title": f"Thing {item}"} for item in range(1, ITEMS + 1)}
    return write_amazon_plus(tmp_path / "beauty", histories, side)


@pytest.fixture
def table(data: Path, tmp_path: Path) -> Table:
    def call(*options: object) -> int:
        runs = ("--data", data, "--runs", tmp_path / "runs", "--no-timing")
        return main(["table", *map(str, (*runs, *options))])

    return call


def rows_of(page: str, title: str) -> dict[tuple[str, str], list[str]]:
    """Cells of one table of a page, by row and form."""
    part = page[page.index(f"## {title}") :].split("\n## ", maxsplit=1)[0]
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if "|" in line
    ]
    return {(cells[0], cells[1]): cells[2:] for cells in lines[2:]}


def without_facts(page: str) -> str:
    """The tables alone: date and command may differ."""
    return page[page.index("## 1 + 29") :]


def test_both_forms_stand_beside_the_papers_row_and_what_cannot_be_trained_says_why(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    out = tmp_path / "pages" / "page.md"
    assert table("--models", "random,pop,sasrec,morec-i,morec-t", "--out", out) == 0
    shown = capsys.readouterr()
    assert out.read_text() == shown.out
    figures = rows_of(shown.out, "1 + 29 candidates, drawn with seed 2024: all users (60)")
    assert figures[("SASRec", "paper")][3] == figures[("SASRec", "ours")][3] == "26.25 50.50 38.09"
    assert figures[("Pop", "paper")][3] == "14.00 41.00 28.00"
    assert figures[("MoRec (I)", "ours")][:3] == ["–"] * 3
    assert "MoRec (I) (ours): the data have no pictures" in shown.out
    assert "MoRec (T) (paper): no morec-t-paper.toml" in shown.out
    assert rows_of(shown.out, "The whole catalogue").keys() == {
        (row, form) for row in ("Random", "Pop", "SASRec") for form in ("paper", "ours")
    }
    assert rows_of(shown.out, "Training")[("SASRec", "ours")][0] == "2 of 2"
    assert max(map(len, without_facts(shown.out).splitlines())) <= 110
    assert "[5 of 10] SASRec (paper): sasrec-paper, trained for 20 minutes at most" in caplog.text


def test_a_second_call_prints_the_same_tables_and_evaluates_nothing(
    table: Table, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert table("--models", "sasrec") == 0
    first = capsys.readouterr().out

    def evaluated_again(*_: object) -> None:
        raise AssertionError

    for module, name in ((targets, "sampled_ranks"), (targets, "full_ranks"), (comparison, "trained_in")):
        monkeypatch.setattr(module, name, evaluated_again)
    assert table("--models", "sasrec") == 0
    assert without_facts(capsys.readouterr().out) == without_facts(first)


def test_every_evaluation_is_a_line_of_the_test_log_and_none_is_made_twice(
    table: Table, tmp_path: Path
) -> None:
    log = tmp_path / "runs" / TEST_LOG
    assert table("--models", "pop,sasrec", "--forms", "ours") == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["part"] for line in lines] == ["test", "table, 1 + 29", "table, 1 + 99"]
    assert lines[0]["metrics"] == lines[1]["metrics"]  # the same weights, users and candidates
    assert table("--models", "pop,sasrec", "--forms", "ours") == 0
    assert len(log.read_text().splitlines()) == 3


def test_a_graph_row_has_its_refit_beside_it_once_there_is_one(
    table: Table,
    configurations: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(FAMILIES, "graph", TinyGraph)
    (configurations / "bm3.toml").write_text(GRAPH)
    whole = "1 + 29 candidates, drawn with seed 2024: all users (60)"
    rows = []
    for options in ((), ("--refit",), ()):
        assert table("--models", "bm3", "--forms", "ours", *options) == 0
        page = capsys.readouterr().out
        assert "know one interaction less" in page
        rows.append(rows_of(page, whole))
    assert [label for label, _ in rows[0]] == ["BM3 †"]  # it reads ids alone
    assert [label for label, _ in rows[1]] == ["BM3 †", "BM3, refit †"]
    assert rows[2] == rows[1]
    # Weights of another seed, and the refit of the first beside them.
    shutil.rmtree(tmp_path / "runs" / "beauty-bm3")
    assert table("--models", "bm3", "--forms", "ours", "--set", "training.seed=2") == 0
    page = capsys.readouterr().out
    assert rows_of(page, whole)[("BM3, refit", "ours")][0] == "–"
    assert "BM3, refit (ours):" in page
    assert "beauty-bm3-refit holds a run with another configuration" in " ".join(page.split())


def test_ranks_of_other_weights_or_damaged_ones_are_made_anew(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table("--models", "sasrec", "--forms", "ours") == 0
    stored = tmp_path / "runs" / "beauty-sasrec" / FILE
    first, page = stored.read_bytes(), capsys.readouterr().out
    stored.write_bytes(first[:100])
    assert table("--models", "sasrec", "--forms", "ours") == 0
    assert without_facts(capsys.readouterr().out) == without_facts(page)
    assert (
        table(
            "--models",
            "sasrec",
            "--forms",
            "ours",
            "--set",
            "training.epochs=4",
            "--set",
            "training.patience=4",
        )
        == 0
    )
    assert rows_of(capsys.readouterr().out, "Training")[("SASRec", "ours")][0] == "4 of 4"
    assert stored.read_bytes() != first


def test_a_model_that_fails_is_a_row_with_its_reason_and_the_others_go_on(
    table: Table, configurations: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = configurations / "sasrec-paper.toml"
    path.write_text(SASREC.replace("learning_rate = 0.01", "learning_rate = 1e36"))
    assert table("--models", "pop,sasrec") == 0
    page = capsys.readouterr().out
    assert "SASRec (paper): the loss of epoch 1 is nan: lower training.learning_rate" in " ".join(
        page.split()
    )
    figures = rows_of(page, "1 + 29 candidates, drawn with seed 2024: all users (60)")
    assert figures[("SASRec", "paper")][0] == "–"
    assert figures[("SASRec", "ours")][0] != "–"

    def full(*_: object) -> Any:
        raise MemoryError

    monkeypatch.setattr(comparison, "trained_in", full)
    path.write_text(SASREC.replace("seed = 1", "seed = 2"))
    assert table("--models", "sasrec") == 0
    assert "SASRec (paper): the memory is used up" in " ".join(capsys.readouterr().out.split())


def test_ctrl_c_keeps_what_is_trained_and_says_how_to_go_on(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = comparison.trained_in

    def stop_at_ours(run: Run, *rest: Any) -> Any:
        if run.folder.name == "beauty-sasrec":
            raise KeyboardInterrupt
        return keep(run, *rest)

    monkeypatch.setattr(comparison, "trained_in", stop_at_ours)
    assert table("--models", "sasrec") == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "stopped at sasrec, row 2 of 2" in shown.err
    assert "the same command goes on" in shown.err
    assert (tmp_path / "runs" / "beauty-sasrec-paper" / FILE).exists()
    monkeypatch.undo()


def test_the_authors_users_and_candidates_have_tables_of_their_own(
    table: Table, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line.split() for line in (data / "sequential.txt").read_text().splitlines()]
    asked = {
        user: {"target": items[-1], "candidates": [items[-1], None, *map(str, range(60, 88))]}
        for user, *items in lines[:12]
        if not set(items) & set(map(str, range(60, 88)))
    }
    file = tmp_path / "authors.json"
    file.write_text(json.dumps({"beauty": asked}))
    assert table("--models", "pop,sasrec", "--forms", "paper") == 0
    capsys.readouterr()
    assert table("--models", "pop,sasrec", "--forms", "paper", "--authors", file) == 0
    page = capsys.readouterr().out
    n = len(asked)
    theirs = rows_of(page, f"Users and candidates of the paper's authors ({n})")
    assert theirs.keys() == {("Pop", "paper"), ("SASRec", "paper")}
    assert f"## 1 + 29 candidates, drawn with seed 2024: the users of the paper's authors ({n})" in page
    assert f"{n} of {n} users of the paper's authors have fewer than 30 candidates" in page
    gone = {user: {"target": record["target"]} for user, record in asked.items()} | {"999": {"target": "1"}}
    file.write_text(json.dumps({"beauty": gone}))
    assert table("--models", "pop", "--forms", "paper", "--authors", file) == 0
    assert "Left out of the authors' users: 1, not here or with another last item." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--minutes", "0"], "not a number of minutes above 0"),
        (["--minutes", "nan"], "not a number of minutes above 0"),
        (["--forms", "theirs"], "theirs is not paper, ours or paper,ours"),
    ],
)
def test_a_wrong_option_is_refused(
    table: Table, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        table(*options)
    assert message in capsys.readouterr().err


def test_a_place_that_no_page_can_be_written_to_is_refused_before_anything_is_trained(
    table: Table, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out in (data, data / "sequential.txt" / "page.md"):
        assert table("--models", "sasrec", "--out", out) == 2
        assert f"--out {out} is no file, or" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_an_unknown_model_is_refused_before_anything_is_trained(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table("--models", "dance") == 2
    assert "known are random, pop, sasrec" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
