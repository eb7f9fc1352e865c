"""How a training goes: what chooses its best epoch, and what ends it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_models import circle, circle_features, config

from models.training import loop
from models.training.fingerprint import fingerprint
from models.training.loop import build, train
from models.training.run import Origin, Run

CPU = torch.device("cpu")


def trained(folder: Path, minutes: float | None = None, **training: Any) -> dict[str, Any]:
    """Trains, or goes on, in a folder; returns the result."""
    settings, dataset = config(training=training), circle()
    run = Run(folder)
    origin = Origin("toy", "data", "somewhere", None, dataset.name, fingerprint(dataset, settings))
    run.start(settings, origin)
    return train(build(settings, dataset, circle_features()), dataset, run, CPU, minutes)


def log_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which every epoch and every validation takes a minute."""
    readings = iter(range(0, 100_000, 60))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(readings)))


@pytest.mark.parametrize("select", ["N@5", "full.N@10"])
def test_the_best_epoch_is_that_of_the_metric_that_the_configuration_names(
    select: str, tmp_path: Path
) -> None:
    result = trained(tmp_path, epochs=5, patience=5, learning_rate=0.05, select=select)
    log = log_of(tmp_path)
    assert {"H@1", "H@5", "N@5", "full.H@10", "full.N@10"} <= log[0].keys()
    assert result["selected_by"] == select
    assert result["best_epoch"] == max(log, key=lambda line: line[select])["epoch"]
    best = max(line[select] for line in log)
    validation = result["metrics"]["validation"]
    assert best == (validation["N@5"] if select == "N@5" else validation["full"]["N@10"])


def test_a_training_ends_by_its_epochs_or_its_patience_and_says_which(tmp_path: Path) -> None:
    short = trained(tmp_path / "short", epochs=2, patience=2)
    assert (short["ended_by"], short["still_rising"], short["hours_to_last_epoch"]) == ("epochs", True, 0)
    settled = trained(tmp_path / "settled", epochs=40, patience=2, learning_rate=0.05)
    assert (settled["ended_by"], settled["still_rising"]) == ("patience", False)
    assert settled["epochs"] == settled["best_epoch"] + 2


@pytest.mark.usefixtures("slow")
def test_a_training_ends_after_the_epoch_in_which_its_time_is_used_up(tmp_path: Path) -> None:
    result = trained(tmp_path, minutes=3, epochs=10, patience=10)
    assert (result["epochs"], result["ended_by"], result["training_seconds"]) == (2, "minutes", 240)
    assert result["hours_to_last_epoch"] == 8 * 2 / 60  # eight more epochs of two minutes
    before = (tmp_path / "result.json").read_bytes()
    trained(tmp_path, minutes=4, epochs=10, patience=10)
    assert (tmp_path / "result.json").read_bytes() == before


@pytest.mark.usefixtures("slow")
def test_a_training_that_ran_out_of_time_goes_on_with_more_to_the_same_bits(tmp_path: Path) -> None:
    trained(tmp_path / "parts", minutes=1, epochs=4, patience=4)
    assert trained(tmp_path / "parts", minutes=5, epochs=4, patience=4)["epochs"] == 3
    assert trained(tmp_path / "parts", epochs=4, patience=4)["ended_by"] == "epochs"
    trained(tmp_path / "whole", epochs=4, patience=4)
    parts, whole = Run(tmp_path / "parts"), Run(tmp_path / "whole")
    assert parts.item_vectors().tobytes() == whole.item_vectors().tobytes()
