"""Replays with the negatives that a data set publishes, on a bundle made of that data set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_service import FakeService
from service_process import start_service
from tiny_bundle import ITEM_IDS, SHORT, write_data

from benchmarks.__main__ import main
from benchmarks.paper.accuracy import by_strategy, score
from benchmarks.paper.records import read_records
from benchmarks.paper.score_tables import sampled_test_metrics
from models.__main__ import main as make


def replay(service: FakeService, out: Path, *options: str) -> int:
    bundle = str(service.bundle.catalogue.folder.parent)
    return main(
        ["replay", "--url", service.url, "--bundle", bundle, "--out", str(out), "--users", "all", *options]
    )


def test_published_negatives_are_found_by_the_ids_of_users_and_items(
    service: FakeService,
    histories: dict[str, list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = write_data(tmp_path / "data", histories, ITEM_IDS)
    options = ("--candidates", "published", "--data", str(data))
    assert replay(service, tmp_path / "r.jsonl", *options) == 0
    assert "left out: 1 user without 29 usable published negatives" in capsys.readouterr().out
    run = read_records(tmp_path / "r.jsonl")
    assert {record["user_id"] for record in run.records} == set(histories) - {SHORT, "u11"}
    for record in run.records:
        rows = histories[record["user_id"]]
        expected = [rows[-1], *[item for item in ITEM_IDS if item not in rows][:29]]
        assert record["candidates"] == sorted(expected)
    assert run.header["left_out"] == {"users": 1, "missing": "29 usable published negatives"}
    assert main(["score", str(tmp_path / "r.jsonl")]) == 0
    page = capsys.readouterr().out
    assert "1 + 29 candidates, published with the data set" in page
    assert "not in the cohort: 1 user without 29 usable published negatives" in page
    assert replay(service, tmp_path / "r.jsonl") == 2
    message = capsys.readouterr().err
    assert "of 1 + 29 candidates, published with the data set (now of 1 + 29 candidates, drawn" in message
    assert "{" not in message


def test_data_of_other_users_are_refused(
    service: FakeService,
    histories: dict[str, list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The same ids, as data sets often number their users, but another last item.
    others = {user: rows[1:] + rows[:1] for user, rows in histories.items()}
    data = write_data(tmp_path / "data", others, ITEM_IDS)
    assert replay(service, tmp_path / "r.jsonl", "--candidates", "published", "--data", str(data)) == 2
    assert "has 0 of the 11 test users of the bundle with the same last item" in capsys.readouterr().err
    (data / "negative_samples.txt").unlink()
    assert replay(service, tmp_path / "r.jsonl", "--candidates", "published", "--data", str(data)) == 2
    assert "publishes no negatives" in capsys.readouterr().err
    assert not (tmp_path / "r.jsonl").exists()


def test_a_bundle_alone_has_no_published_candidates(
    service: FakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(service, tmp_path / "r.jsonl", "--candidates", "published") == 2
    assert "add --data FOLDER" in capsys.readouterr().err
    assert replay(service, tmp_path / "r.jsonl", "--data", str(tmp_path)) == 2
    assert "--candidates published" in capsys.readouterr().err


def test_a_replay_is_compared_with_the_part_of_the_manifest_that_has_its_candidates() -> None:
    drawn, published = {"seed": 1}, {"candidates": "published"}
    shares = {"H@1": 0.1, "H@5": 0.5, "N@5": 0.3}
    metrics = {
        "test": {**shares, "protocol": drawn},
        "test_published": {**shares, "H@1": 0.2, "protocol": published},
    }
    assert sampled_test_metrics(metrics, published)["H@1"] == 0.2
    assert sampled_test_metrics(metrics, drawn)["H@1"] == 0.1
    assert sampled_test_metrics(metrics, {"seed": 2}) == {}
    assert sampled_test_metrics({"test": {**dict.fromkeys(shares), "protocol": drawn}}, drawn) == {}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_replay_of_movies_gives_the_figures_of_training_over_published_candidates(
    real_data: Path, tmp_path: Path
) -> None:
    data, bundle, out = real_data / "movielens_posters" / "movies", tmp_path / "bundle", tmp_path / "r.jsonl"
    options = ["--candidates", "published", "--data", str(data)]
    settings = ["--model", "sasrec", "--set", "training.epochs=1", "--runs", str(tmp_path)]
    assert make(["train", *options, *settings, "--name", "movies"]) == 0
    assert make(["export", "--run", str(tmp_path / "movies"), "--bundle", str(bundle)]) == 0
    manifest = json.loads((bundle / "backbones" / "sasrec" / "manifest.json").read_text())
    measured = manifest["metrics"]["test_published"]
    trained = sampled_test_metrics(manifest["metrics"], measured["protocol"])
    with start_service(bundle) as service:
        asked = ["--url", service.url, "--bundle", str(bundle), "--users", "all", "--out", str(out)]
        assert main(["replay", *asked, *options]) == 0
    (found,) = [score("none", records) for records in by_strategy(read_records(out).records).values()]
    assert found.strategy_score.users == measured["sampled_users"]
    assert found.strategy_score.values == pytest.approx(trained, abs=1e-9)
