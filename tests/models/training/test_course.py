"""How a training goes: what chooses its best epoch, and what ends it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from moved_clock import MovedClock
from toy_models import circle, circle_features, config

from models.networks.base import LearningNetwork, Network
from models.networks.tower_recommender import TowerRecommender
from models.shown_progress import spoken
from models.training.epoch import train_epoch
from models.training.fingerprint import fingerprint
from models.training.loop import build, train
from models.training.progress import TrainingProgress
from models.training.run import Origin, Run
from models.training.scoring import Validation

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
def slow(clock: MovedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every epoch and every validation takes a minute."""
    batches, measure = TowerRecommender.batches, Validation.measure

    def slow_batches(self: TowerRecommender, generator: torch.Generator) -> Sequence[torch.Tensor]:
        clock.move(60)
        return batches(self, generator)

    def slow_measure(self: Validation, network: Network) -> dict[str, float]:
        clock.move(60)
        return measure(self, network)

    monkeypatch.setattr(TowerRecommender, "batches", slow_batches)
    monkeypatch.setattr(Validation, "measure", slow_measure)


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


@pytest.fixture
def paces(clock: MovedClock, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that a step takes, by epoch."""
    seconds: list[float] = []
    step, epoch = TowerRecommender.loss, train_epoch
    passed: list[int] = []

    def slow_step(self: TowerRecommender, batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        clock.move(seconds[passed[-1]])
        return step(self, batch, generator)

    def counted(network: LearningNetwork, optimiser: torch.optim.Optimizer, now: TrainingProgress) -> float:
        passed.append(now.epoch)
        return epoch(network, optimiser, now)

    monkeypatch.setattr(TowerRecommender, "loss", slow_step)
    monkeypatch.setattr("models.training.loop.train_epoch", counted)
    return seconds


def test_without_a_terminal_an_epoch_has_a_line_and_a_long_one_more_of_them_and_a_warning(
    paces: list[float], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paces += [1.0, 14.0, 1.0]
    with caplog.at_level("INFO"):
        trained(tmp_path, epochs=3, patience=3, positions=128)
    first, *within, second, third = (line for line in caplog.messages if line.startswith("epoch"))
    one = log_of(tmp_path)[0]
    steps = int(one["seconds"])  # a second each
    assert first.startswith(f"epoch 1 of 3: loss {one['loss']:.3f}, H@1 {one['H@1']:.4f}, H@5 ")
    assert first.endswith(f", full.N@10 {one['full.N@10']:.4f}, {steps:.1f} s, at most 0:{2 * steps} left")
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    late = 14 * (10 * steps // 14 + 1)  # the first of its steps that end later than ten of those epochs
    assert warning.startswith(f"epoch 2 has taken {spoken(late)} for {late // 14} of {steps} steps, and the ")
    within.remove(warning)
    assert within[0].startswith(f"epoch 2: 3 of {steps}, {spoken(14 * (steps - 3))} left, loss ")
    assert f", N@5 {one['N@5']:.4f}, at most " in within[0]
    assert within[-1] == f"epoch 2: all {steps} in {spoken(14 * steps)}"
    assert len(within) == (steps - 1) // 3 + 1  # every 42 seconds, and the last
    assert second.startswith("epoch 2 of 3: loss ")
    assert third.endswith("at most 0:00 left")
