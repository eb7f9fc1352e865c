"""Replays for the users and candidates of the paper's authors, on a bundle made of their data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_service import FakeService
from tiny_bundle import ITEM_IDS, write_data

from benchmarks.__main__ import main
from benchmarks.paper.records import read_records
from benchmarks.paper.score_tables import chosen_users, sampled_test_metrics

ASKED = ("u1", "u3", "u4", "u8")


def replay(service: FakeService, out: Path, *options: str) -> int:
    bundle = str(service.bundle.catalogue.folder.parent)
    return main(["replay", "--url", service.url, "--bundle", bundle, "--out", str(out), *options])


@pytest.fixture
def data(histories: dict[str, list[str]], tmp_path: Path) -> Path:
    return write_data(tmp_path / "tiny", histories, ITEM_IDS)


def shown(histories: dict[str, list[str]], user: str) -> list[str | None]:
    """The target in the sixth place, after others; u3 lacks two of its 29 others, and u4 its target."""
    rows = histories[user]
    others: list[str | None] = [*[item for item in ITEM_IDS if item not in rows][:29]]
    if user == "u3":
        others[1] = others[20] = None
    return [*others[:5], None if user == "u4" else rows[-1], *others[5:]]


@pytest.fixture
def authors(histories: dict[str, list[str]], data: Path) -> Path:
    maps = json.loads((data / "datamaps.json").read_text())
    users, items = ({public: n for n, public in maps[f"id2{kind}"].items()} for kind in ("user", "item"))
    asked: dict[str, Any] = {
        users[user]: {
            "target": items[histories[user][-1]],
            "candidates": [None if item is None else items[item] for item in shown(histories, user)],
        }
        for user in ASKED
    }
    file = data.parent / "authors.json"
    file.write_text(json.dumps({"tiny": asked, "toys": {"1": {"target": "1"}}}))
    return file


def test_the_authors_users_are_asked_about_the_candidates_that_were_shown(
    service: FakeService,
    histories: dict[str, list[str]],
    data: Path,
    authors: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "r.jsonl"
    options = (
        "--cohort",
        "authors",
        "--candidates",
        "authors",
        "--authors",
        str(authors),
        "--data",
        str(data),
    )
    assert replay(service, out, *options) == 0
    said = capsys.readouterr().out
    assert "cohort authors: 4 users whom the paper's authors asked about" in said
    assert "left out: 1 user without candidates of the paper's authors" in said
    run = read_records(out)
    assert {record["user_id"]: record["candidates"] for record in run.records} == {
        user: sorted(item for item in shown(histories, user) if item is not None)
        for user in ("u1", "u3", "u8")
    }
    assert run.header["options"]["cohort"] == {"name": "authors", "users": 4, "left_out": 0}
    assert run.header["options"]["protocol"]["candidates"] == "authors"
    assert run.header["cohort"] == 3
    assert main(["score", str(out)]) == 0
    page = capsys.readouterr().out
    assert "- options: cohort authors: 4 users whom the paper's authors asked about; catalogue" in page
    assert "candidates, those of the paper's authors" in page
    assert "- 1 user has fewer candidates, and the target is ranked among those" in page
    assert "- not in the cohort: 1 user without candidates of the paper's authors" in page
    assert replay(service, out) == 2
    message = capsys.readouterr().err
    assert "cohort cohort authors" not in message
    assert "4 users whom the paper's authors asked about (now not given)" in message


def test_the_authors_users_can_be_asked_about_drawn_candidates(
    service: FakeService, data: Path, authors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.jsonl"
    assert replay(service, out, "--cohort", "authors", "--authors", str(authors), "--data", str(data)) == 0
    records = read_records(out).records
    assert {record["user_id"] for record in records} == set(ASKED)
    assert {len(record["candidates"]) for record in records} == {30}
    assert main(["score", str(out)]) == 0
    assert "fewer candidates" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--cohort", "authors"), "by which the paper's authors name users: add --data FOLDER"),
        (("--cohort", "authors", "--data", "DATA"), "pass --authors FILE"),
        (("--candidates", "authors", "--data", "DATA"), "pass --authors FILE"),
        (("--authors", "FILE"), "--authors is read for --cohort authors and --candidates authors alone"),
        (("--data", "DATA"), "--data is read for --candidates published or authors and for --cohort authors"),
        (
            ("--cohort", "authors", "--users", "all", "--data", "DATA", "--authors", "FILE"),
            "a choice of 4 users and --users all is another one: leave one of the two out",
        ),
    ],
)
def test_options_that_lack_or_contradict_each_other_are_one_sentence(
    options: tuple[str, ...],
    complaint: str,
    service: FakeService,
    data: Path,
    authors: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = {"DATA": str(data), "FILE": str(authors)}
    assert replay(service, tmp_path / "r.jsonl", *(paths.get(each, each) for each in options)) == 2
    assert complaint in capsys.readouterr().err
    assert (service.requests, service.checks) == ([], [])


def test_a_replay_is_compared_with_the_training_figures_of_its_own_users() -> None:
    shares = {"H@1": 0.1, "H@5": 0.5, "N@5": 0.3}
    authors = {"name": "authors", "users": 400, "left_out": 0}
    some = {"name": "uniform", "users": 400, "seed": 2024}
    metrics = {
        "test": {**shares, "protocol": {}},
        "test_drawn_of_400": {**shares, "H@1": 0.2, "protocol": {}, "cohort": some},
        "test_drawn_of_authors": {**shares, "H@1": 0.3, "protocol": {}, "cohort": authors},
    }

    def first(**options: Any) -> float | None:
        return sampled_test_metrics(metrics, {}, chosen_users(options)).get("H@1")

    assert first(users=None, seed=2024) == 0.1
    assert first(users=400, seed=2024) == 0.2
    assert first(cohort=authors) == 0.3
    assert first(users=400, seed=7) is first(users=20, seed=2024) is None
