from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_models import ITEMS, circle, circle_features, config

from models.data.dataset import Dataset
from models.errors import TrainingError
from models.evaluation import (
    DrawnCandidates,
    candidate_matrix,
    evaluate,
    leave_one_out,
    popularity,
    sampled_metrics,
)
from models.networks.config import Config
from models.networks.tower_recommender import TowerRecommender
from models.training.baselines import Pop
from models.training.fingerprint import fingerprint
from models.training.loop import build, train
from models.training.run import Origin, Run, RunError

CPU = torch.device("cpu")


def start(folder: Path, settings: Config, dataset: Dataset) -> Run:
    run = Run(folder)
    run.start(
        settings, Origin("toy", "data", "somewhere", None, dataset.name, fingerprint(dataset, settings))
    )
    return run


def built(settings: Config, dataset: Dataset | None = None) -> TowerRecommender:
    network = build(settings, dataset or circle(), circle_features())
    assert isinstance(network, TowerRecommender)
    return network


def trained(
    folder: Path, settings: Config, dataset: Dataset | None = None
) -> tuple[TowerRecommender, dict[str, Any]]:
    dataset = dataset or circle()
    network = built(settings, dataset)
    return network, train(network, dataset, start(folder, settings, dataset), CPU)


def same(one: TowerRecommender, other: TowerRecommender) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    ("modalities", "fusion", "negatives"),
    [
        (["id"], "sum", 20),
        (["text"], "sum", 20),
        (["image"], "sum", 0),
        (["text", "image"], "concat", 20),
        (["id", "text", "image"], "sum", 0),
    ],
)
def test_every_tower_learns_the_circle_that_popularity_cannot_see(
    modalities: list[str], fusion: str, negatives: int, tmp_path: Path
) -> None:
    settings = config(
        tower={"modalities": modalities, "fusion": fusion},
        training={"epochs": 9, "patience": 9, "negatives": negatives, "learning_rate": 0.008},
    )
    dataset = circle()
    _, result = trained(tmp_path / "run", settings)
    split = leave_one_out(dataset.histories)
    candidates = candidate_matrix(split.test, DrawnCandidates(dataset.histories, ITEMS))
    pop = Pop(popularity(dataset.histories, ITEMS))
    by_popularity = sampled_metrics(evaluate(pop.score, split.test, candidates))
    assert by_popularity["H@5"] < 0.3
    assert result["metrics"]["test"]["H@5"] > 0.85
    assert result["metrics"]["test"]["full"]["H@10"] > 0.6


PAPER: dict[str, dict[str, Any]] = {
    "network": {
        "input_norm": True,
        "norm": "post",
        "feed_forward": 64,
        "attention_bias": False,
        "norm_eps": 1e-6,
        "start": "xavier",
    },
    "tower": {"fusion": "concat", "projection": "linear", "start": "xavier"},
    "training": {
        "epochs": 14,
        "patience": 14,
        "positions": 0,
        "sequences": 16,
        "windows": "last",
        "loss": "bce",
        "negatives": 1,
        "weight_decay": 0.1,
        "beta2": 0.999,
    },
}
"""The form of MSRBench's code, but for sizes and learning rate."""


@pytest.mark.parametrize(
    "tower",
    [
        {"modalities": ["id"]},
        {"modalities": ["text"], "table": "trained"},
        {"modalities": ["text", "image"], "projection": "authors", "layers": 1},
    ],
)
def test_every_tower_of_the_papers_form_learns_the_circle(tower: dict[str, Any], tmp_path: Path) -> None:
    settings = config(**{**PAPER, "tower": {**PAPER["tower"], **tower}})
    _, result = trained(tmp_path / "run", settings)
    assert result["metrics"]["test"]["H@5"] > 0.85


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    settings = config(network={"dropout": 0.3}, tower={"modalities": ["id", "text"], "dropout": 0.1})
    other = config(
        network={"dropout": 0.3}, tower={"modalities": ["id", "text"], "dropout": 0.1}, training={"seed": 2}
    )
    first, _ = trained(tmp_path / "1", settings)
    second, _ = trained(tmp_path / "2", settings)
    third, _ = trained(tmp_path / "3", other)
    assert same(first, second)
    assert not same(first, third)


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


class KilledError(Exception):
    """What happens to a process."""


@pytest.mark.parametrize(
    ("moment", "training"),
    [("save_best", {}), ("save", {}), ("save", {"loss": "bce", "negatives": 1, "windows": "last"})],
)
def test_a_run_killed_in_its_third_epoch_and_called_again_equals_an_uninterrupted_one(
    moment: str, training: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, dataset = config(network={"dropout": 0.3}, training={"epochs": 5, **training}), circle()
    whole, expected = trained(tmp_path / "whole", settings)

    run, keep, calls = start(tmp_path / "killed", settings, dataset), getattr(Run, moment), []

    def die_at_third(self: Run, *args: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KilledError
        keep(self, *args)

    monkeypatch.setattr(Run, moment, die_at_third)
    with pytest.raises(KilledError):
        train(built(settings, dataset), dataset, run, CPU)
    monkeypatch.undo()
    assert run.result() is None
    resumed = built(settings, dataset)
    result = train(resumed, dataset, start(run.folder, settings, dataset), CPU)
    assert same(resumed, whole)
    assert result["metrics"] == expected["metrics"]
    assert [line["epoch"] for line in lines(run.folder)] == [1, 2, 3, 4, 5]


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    settings = config()
    first, result = trained(tmp_path, settings)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.suffix == ".pt"}
    again, same_result = trained(tmp_path, settings)
    assert same(first, again)
    assert json.dumps(result) == json.dumps(same_result)
    assert before == {
        path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.suffix == ".pt"
    }


def test_the_best_epoch_is_kept_and_patience_ends_the_run(tmp_path: Path) -> None:
    # So fast that validation is best early and never again.
    settings = config(training={"epochs": 40, "patience": 2, "learning_rate": 0.05})
    _, result = trained(tmp_path, settings)
    log = lines(tmp_path)
    best = max(log, key=lambda line: line["N@5"])
    assert result["epochs"] == len(log) < 40
    assert result["best_epoch"] == best["epoch"] == len(log) - 2
    assert result["metrics"]["validation"]["N@5"] == best["N@5"]
    assert result["seconds_per_epoch"] == pytest.approx(np.mean([line["seconds"] for line in log]))


def test_a_folder_with_another_run_is_left_alone(tmp_path: Path) -> None:
    trained(tmp_path, config(training={"epochs": 1}))
    with pytest.raises(RunError, match="another configuration or other data"):
        start(tmp_path, config(training={"seed": 9}), circle())
    with pytest.raises(RunError, match="another configuration or other data"):
        start(tmp_path, config(), circle(users=239))
    start(tmp_path, config(training={"epochs": 1}), circle(name="the same under another name"))


def test_a_loss_that_is_not_a_number_stops_with_a_sentence_and_keeps_nothing(tmp_path: Path) -> None:
    settings = config(tower={"modalities": ["text"]})
    features = circle_features()
    features["text"].values[5] = np.nan
    run = start(tmp_path, settings, circle())
    with pytest.raises(TrainingError, match="the loss of epoch 1 is nan: lower"):
        train(build(settings, circle(), features), circle(), run, CPU)
    assert run.restore() is None


def test_a_data_set_of_too_short_histories_is_refused(tmp_path: Path) -> None:
    dataset = circle(users=2)
    short = Dataset("short", dataset.items, dataset.users, tuple(h[:2] for h in dataset.histories))
    with pytest.raises(TrainingError, match="no user with enough items"):
        trained(tmp_path, config(), short)


def small_catalogue() -> Dataset:
    """The circle with twenty items, of which no user has 29 to choose negatives from."""
    dataset = circle(users=60)
    histories = tuple(
        np.array(list(dict.fromkeys((rows % 20).tolist())), np.int32) for rows in dataset.histories
    )
    return replace(dataset, items=dataset.items[:20], histories=histories)


def test_a_catalogue_too_small_for_candidates_is_trained_by_the_ranks_over_all_of_it(tmp_path: Path) -> None:
    settings = config(training={"epochs": 2, "negatives": 5})
    _, result = trained(tmp_path, settings, small_catalogue())
    test, log = result["metrics"]["test"], lines(tmp_path)
    assert (test["H@1"], test["H@5"], test["N@5"], test["sampled_users"]) == (None, None, None, 0)
    assert 0 < test["full"]["N@10"] < 1
    assert result["selected_by"] == "full.N@10"
    assert result["best_epoch"] == max(log, key=lambda line: line["full.N@10"])["epoch"]


def test_the_last_two_items_of_every_user_leave_no_trace_in_the_weights(tmp_path: Path) -> None:
    settings, dataset = config(training={"epochs": 1}), circle()
    others = tuple(
        np.append(rows[:-2], (rows[-2:] + 7) % ITEMS).astype(np.int32) for rows in dataset.histories
    )
    first, _ = trained(tmp_path / "1", settings, dataset)
    second, _ = trained(tmp_path / "2", settings, replace(dataset, histories=others))
    assert same(first, second)
    shorter = tuple(rows[1:] for rows in dataset.histories)
    third, _ = trained(tmp_path / "3", settings, replace(dataset, histories=shorter))
    assert not same(first, third)


@pytest.mark.parametrize(
    "change",
    [{"negatives": 0}, {"log_q": True}, {"temperature": 0.5}, {"negatives": 10}],
)
def test_every_choice_of_the_loss_changes_it(change: dict[str, Any]) -> None:
    def loss(**training: Any) -> float:
        network = built(config(training=training)).eval()
        negatives = torch.arange(network.learning.negatives)
        return network.next_item_loss(torch.arange(20, 32).view(3, 4), negatives).item()

    assert loss(**change) != pytest.approx(loss(), abs=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 3},
        {"positions": 32},
        {"positions": 0, "sequences": 16},
        {"windows": "last"},
        {"loss": "bce", "negatives": 1},
        {"beta2": 0.9},
        {"learning_rate": 0.02},
        {"weight_decay": 0.5},
        {"epochs": 1},
    ],
)
def test_every_choice_of_the_loop_changes_the_weights(change: dict[str, Any], tmp_path: Path) -> None:
    base, _ = trained(tmp_path / "base", config(training={"epochs": 2}))
    other, _ = trained(tmp_path / "other", config(training={"epochs": 2} | change))
    assert not same(base, other)


def test_a_checkpoint_from_before_the_optimiser_was_fused_goes_on_without_it() -> None:
    network = built(config())
    before = torch.optim.AdamW(network.parameters(), lr=0.01)
    network.loss(torch.arange(12).view(3, 4), torch.Generator().manual_seed(0)).backward()
    before.step()
    after = network.optimiser()
    assert after.param_groups[0]["fused"]
    after.load_state_dict(before.state_dict())
    assert not after.param_groups[0]["fused"]
    after.step()


@pytest.mark.parametrize("loss", ["softmax", "bce"])
def test_the_loss_of_a_mixed_batch_is_the_mean_over_its_positions(loss: str) -> None:
    training = {"positions": 0, "sequences": 4, "loss": loss, "negatives": 1 if loss == "bce" else 20}
    network = built(config(training=training)).eval()
    long, short = torch.arange(5)[None], torch.arange(10, 12)[None]
    mixed = torch.cat([long, torch.nn.functional.pad(short, (0, 3), value=-1)])

    def measured(rows: torch.Tensor) -> float:
        if loss == "bce":
            return network.binary_loss(
                rows, 20 + torch.arange(rows.shape[1] - 1).expand(len(rows), -1)
            ).item()
        return network.next_item_loss(rows, torch.arange(20, 40)).item()

    assert measured(mixed) == pytest.approx((4 * measured(long) + measured(short)) / 5, rel=1e-5)


@pytest.mark.parametrize("loss", ["softmax", "bce"])
def test_gradients_are_the_same_to_the_last_bit_with_several_threads(loss: str) -> None:
    # Plain indexing adds gradients of an item that occurs often in whatever order the threads arrive.
    mixed = {"positions": 0, "sequences": 512, "loss": loss, "negatives": 1} if loss == "bce" else {}
    settings = config(network={"dimension": 64, "length": 20}, training=mixed)
    rows = torch.randint(ITEMS, (512, 21), generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        gradients = []
        for _ in range(6):
            network = built(settings)
            torch.manual_seed(0)
            if loss == "bce":
                uneven = rows.masked_fill(torch.arange(21) > torch.arange(512)[:, None] % 20 + 1, -1)
                network.binary_loss(uneven, rows[:, :-1].flip(0)).backward()
            else:
                network.next_item_loss(rows, torch.arange(20)).backward()
            gradients.append(network.tower.parts[0].table.weight.grad)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(gradients[0], each) for each in gradients)
