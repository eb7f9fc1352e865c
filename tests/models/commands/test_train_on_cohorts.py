"""Tests ``train`` with the users and candidates of its test part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_data import write_amazon_plus

from models.__main__ import main
from models.data import amazon_plus
from models.evaluation import cohort

ITEMS = 70
USERS = 40
SETTINGS = ["network.dimension=8", "network.length=5", "training.epochs=1", "training.negatives=5"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    histories = [
        [str((7 * user + step) % ITEMS + 1) for step in range(4 + user % 5)] for user in range(USERS)
    ]
    return write_amazon_plus(
        tmp_path_factory.mktemp("data") / "beauty", histories, {str(item): {} for item in range(1, ITEMS + 1)}
    )


@pytest.fixture(scope="module")
def authors(data: Path) -> Path:
    """Ten users, of whom two have fewer than 30 candidates and one has none with the target."""
    dataset = amazon_plus.read(data)
    asked: dict[str, Any] = {}
    for user in range(3, 13):
        taken = [dataset.items[row].item_id[1:] for row in dataset.histories[user]]
        others = [str(item) for item in range(1, ITEMS + 1) if str(item) not in taken][:29]
        shown: list[str | None] = [*others[:11], taken[-1], *others[11:]]
        if user in (4, 9):
            shown[user] = None
        if user == 7:
            shown[11] = None
        asked[str(user + 1)] = {"target": taken[-1], "candidates": shown}
    file = data.parent / "authors.json"
    file.write_text(json.dumps({"beauty": asked}))
    return file


@pytest.fixture
def train(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    runs = tmp_path_factory.getbasetemp() / "cohort-runs"  # trained once, and then measured
    settings = [part for each in SETTINGS for part in ("--set", each)]

    def called(*options: object) -> int:
        fixed = ["--data", data, "--model", "sasrec", "--runs", runs]
        return main(["train", *map(str, [*fixed, *options]), *settings])

    called.result = lambda: json.loads((runs / "beauty-sasrec" / "result.json").read_text())  # type: ignore
    return called


def test_the_table_is_about_the_authors_users_and_candidates(
    train: Any, authors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--cohort", "authors", "--candidates", "authors", "--authors", authors)
    assert train(*asked) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[1:5]] == ["40", "10", "9", "9"]
    assert "test 1 + 29 candidates, those of the paper's authors" in lines[5]
    assert "test on cohort authors: 10 users whom the paper's authors asked about" in lines
    assert "test without candidates of the paper's authors: 1 user, who counts in * alone" in lines
    fewer = (
        "test: 2 users have fewer candidates, and the target is ranked among those: the others are not known"
    )
    assert fewer in lines
    part = train.result()["metrics"]["test_authors_of_authors"]
    assert part["cohort"] == {"name": "authors", "users": 10, "left_out": 0}
    assert (part["users"], part["sampled_users"], part["fewer_candidates"]) == (10, 9, 2)
    assert train(*asked) == 0  # measured again, not trained
    assert capsys.readouterr().out.splitlines() == lines


def test_the_table_is_about_as_many_seeded_users_as_are_wanted(
    train: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--users", "8") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[1:5]] == ["40", "8", "8", "8"]
    assert "test on cohort uniform: 8 users chosen with seed 2024" in lines
    assert len(cohort(range(USERS), 8)) == train.result()["metrics"]["test_drawn_of_8"]["sampled_users"]
    assert train("--users", "all") == 0
    assert train() == 0
    every = capsys.readouterr().out
    assert "test on" not in every
    half = every.splitlines()[: len(every.splitlines()) // 2]
    assert half * 2 == every.splitlines()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--cohort", "authors"), "pass --authors FILE"),
        (("--candidates", "authors"), "pass --authors FILE"),
        (("--authors", "x.json"), "--authors is read for --cohort authors and --candidates authors alone"),
        (("--cohort", "authors", "--authors", "x.json"), "--authors x.json cannot be read"),
    ],
)
def test_options_that_lack_each_other_are_one_sentence(
    options: tuple[str, ...], complaint: str, train: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*options) == 2
    assert complaint in capsys.readouterr().err


def test_other_numbers_of_users_than_the_authors_and_bundles_are_refused(
    train: Any, authors: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--cohort", "authors", "--authors", str(authors))
    for users in ("7", "all"):
        assert train(*asked, "--users", users) == 2
        assert f"a choice of 10 users and --users {users} is another one" in capsys.readouterr().err
    assert train(*asked, "--users", "10") == 0
    bundle = str(tmp_path / "bundle")
    assert main(["data", "--data", str(data), "--bundle", bundle]) == 0
    assert main(["train", "--bundle", bundle, "--model", "sasrec", *asked, "--runs", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "is a bundle and holds no internal ids" in message
    assert "replay --cohort authors --data FOLDER" in message
    with pytest.raises(SystemExit):
        train("--users", "0")
