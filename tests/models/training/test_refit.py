"""A finished run is trained anew on training and validation, in a folder of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graph_family import TinyGraph
from toy_models import circle, circle_features, config

from models.errors import TrainingError
from models.evaluation import DrawnCandidates, leave_one_out
from models.networks.base import Network
from models.networks.config import Config
from models.networks.registry import FAMILIES
from models.training.config import from_json
from models.training.fingerprint import fingerprint
from models.training.loop import build, train
from models.training.refit import refit
from models.training.run import REFIT, Origin, Run, RunError
from models.training.scoring import metrics, scorer_for

CPU = torch.device("cpu")
DATA = circle(users=60)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "graph", TinyGraph)


def graph(epochs: int = 4) -> Config:
    training = {"seed": 1, "epochs": epochs, "patience": 9, "batch": 32}
    rates = {"learning_rate": 0.01, "weight_decay": 0.0}
    record = {"family": "graph", "network": {"dimension": 8, "layers": 2}, "training": {**training, **rates}}
    return from_json(record, "toy")


def trained(folder: Path, settings: Config) -> tuple[Run, dict[str, Any]]:
    run = Run(folder)
    run.start(settings, Origin("toy", "data", "somewhere", None, "circle", fingerprint(DATA, settings)))
    return run, train(build(settings, DATA, circle_features()), DATA, run, CPU)


def refitted(run: Run) -> tuple[Network, Run, dict[str, Any]]:
    return refit(run, DATA, circle_features(), CPU)


def test_the_histories_of_a_refit_end_before_the_test_item() -> None:
    histories = tuple(np.arange(n, dtype=np.int32) for n in (5, 3, 2, 0))
    split = leave_one_out(histories)
    assert [len(rows) for rows in split.training] == [3, 1, 2, 0]
    assert [len(rows) for rows in split.before_test] == [4, 2, 2, 0]


@pytest.mark.parametrize("kind", ["graph", "sequence"])
def test_a_refit_takes_the_best_number_of_epochs_and_keeps_its_last_weights(
    kind: str, tmp_path: Path
) -> None:
    settings = graph() if kind == "graph" else config(training={"epochs": 4, "patience": 9})
    run, result = trained(tmp_path / "run", settings)
    network, again, figures = refitted(run)
    assert again.folder == tmp_path / "run-refit"
    assert (again.origin().model, again.origin().part) == ("toy-refit", REFIT)
    assert (figures["epochs"], figures["selected_by"]) == (result["best_epoch"], "last")
    test = leave_one_out(DATA.histories).test
    source = DrawnCandidates(DATA.histories, len(DATA.items))
    assert figures["metrics"] == {"test": metrics(scorer_for(network), test, source)}
    assert again.result() == figures
    # The last weights, of a network that has seen the validation items.
    log = [json.loads(line) for line in (again.folder / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == list(range(1, result["best_epoch"] + 1))
    assert not any("@" in name for name in log[0])
    assert figures["metrics"]["test"] != result["metrics"]["test"]


def test_a_refit_that_is_interrupted_goes_on_to_the_same_bits_and_a_finished_one_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole, expected = refitted(trained(tmp_path / "whole", graph())[0])
    run, _ = trained(tmp_path / "killed", graph())
    save, calls = Run.save, []

    def die_at_second(self: Run, *args: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        save(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save", die_at_second)
        with pytest.raises(KeyboardInterrupt):
            refitted(run)
    _, again, figures = refitted(run)
    assert again.item_vectors().tobytes() == whole.item_vectors().tobytes()
    assert again.user_vectors().tobytes() == whole.user_vectors().tobytes()
    assert figures["metrics"] == expected["metrics"]
    monkeypatch.setattr("models.training.loop.train_epoch", lambda *_: pytest.fail("trained again"))
    assert refitted(run)[2] == figures


def test_a_refit_follows_a_run_that_has_found_a_later_best_epoch(tmp_path: Path) -> None:
    _, short = trained(tmp_path / "run", graph(epochs=2))
    refitted(Run(tmp_path / "run"))
    _, longer = trained(tmp_path / "run", graph(epochs=5))
    assert longer["best_epoch"] > short["best_epoch"]
    _, again, figures = refitted(Run(tmp_path / "run"))
    assert figures["epochs"] == longer["best_epoch"]
    _, whole, _ = refitted(trained(tmp_path / "whole", graph(epochs=5))[0])
    assert again.item_vectors().tobytes() == whole.item_vectors().tobytes()


def test_a_run_without_a_result_has_no_refit_and_a_run_of_the_name_is_left_alone(tmp_path: Path) -> None:
    run, _ = trained(tmp_path / "run", graph(epochs=1))
    trained(tmp_path / "run-refit", graph(epochs=1))
    with pytest.raises(RunError, match="run-refit holds a run with another configuration or other data"):
        refitted(run)
    (run.folder / "result.json").unlink()
    with pytest.raises(TrainingError, match="no best epoch to train anew for"):
        refitted(run)
