"""Runs the paper benchmarks against the real service, on a bundle whose right answers are known."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from service_process import RunningService, start_service

from benchmarks.__main__ import main
from benchmarks.paper.records import read_records
from models.evaluation import (
    DrawnCandidates,
    candidate_matrix,
    evaluate,
    leave_one_out,
    sampled_metrics,
)
from service.candidates.sequence import SequenceModel
from service.catalogue.bundle import open_bundle


@pytest.fixture(scope="module")
def service(bundle_folder: Path) -> Iterator[RunningService]:
    with start_service(bundle_folder) as running:
        yield running


def test_a_replay_of_none_gives_the_numbers_of_an_evaluation_without_http(
    service: RunningService, bundle_folder: Path, tmp_path: Path
) -> None:
    out, table = tmp_path / "r.jsonl", tmp_path / "s.csv"
    options = ["--url", service.url, "--bundle", str(bundle_folder), "--users", "all"]
    assert main(["replay", *options, "--strategies", "none,s2", "--out", str(out)]) == 0
    assert main(["score", str(out), "--csv", str(table)]) == 0
    bundle = open_bundle(bundle_folder)
    histories = np.split(bundle.catalogue.histories.item_rows, bundle.catalogue.histories.offsets[1:-1])
    examples = leave_one_out(histories).test
    candidates = candidate_matrix(examples, DrawnCandidates(histories, len(bundle.catalogue.items)))
    model = SequenceModel(bundle.backbones["blocks-raw"])
    ranks = evaluate(
        lambda given, pools: np.array(
            [model.score(None, e.history.tolist(), p) for e, p in zip(given, pools, strict=True)]
        ),
        examples,
        candidates,
    )
    with table.open(newline="") as stream:
        found = {r["metric"]: float(r["value"]) for r in csv.DictReader(stream) if r["score"] == "strategy"}
    assert 0 < found["N@5"] < 1
    assert found == pytest.approx(sampled_metrics(ranks), abs=1e-6)


def test_pop_is_replayed_as_a_model_that_every_bundle_has(
    service: RunningService, bundle_folder: Path, tmp_path: Path
) -> None:
    options = ["--url", service.url, "--bundle", str(bundle_folder), "--users", "2", "--backbone", "pop"]
    assert main(["replay", *options, "--out", str(tmp_path / "r.jsonl")]) == 0
    assert {r["backbone"]["name"] for r in read_records(tmp_path / "r.jsonl").records} == {"pop"}


def test_a_replay_with_the_lvlm_places_every_candidate_once(
    service: RunningService, bundle_folder: Path, tmp_path: Path
) -> None:
    options = ["--url", service.url, "--bundle", str(bundle_folder), "--users", "4"]
    assert main(["replay", *options, "--strategies", "s1,s3,s4,s5", "--out", str(tmp_path / "r.jsonl")]) == 0
    records = read_records(tmp_path / "r.jsonl").records
    assert len(records) == 16
    for record in records:
        assert sorted(item["item_id"] for item in record["items"]) == record["candidates"]
        assert record["served"] == record["strategy"]
        assert {item["source"] for item in record["items"]} == {"lvlm"}
        assert record["lvlm"]["output_tokens"] > 0


def test_both_watches_see_every_request_of_every_strategy_and_the_client_s_is_the_longer(
    service: RunningService, bundle_folder: Path, tmp_path: Path
) -> None:
    options = ["--url", service.url, "--bundle", str(bundle_folder), "--users", "8"]
    assert main(["efficiency", *options, "--json", str(tmp_path / "e.json")]) == 0
    rows = json.loads((tmp_path / "e.json").read_text())["rows"]
    assert [row["strategy"] for row in rows] == ["none", "s1", "s2", "s3", "s4", "s5"]
    for row in rows:
        assert row["histogram_count"] == row["users"] == 8
        # How little they differ is for a quiet machine to show; tests share theirs.
        assert 0 < row["histogram_mean"] < row["client_mean"]
