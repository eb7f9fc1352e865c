"""What a training asks of the machine: precision, the same bits every time, and memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from graph_family import TinyGraph
from toy_models import circle, circle_features, config

from models.errors import TrainingError
from models.networks.config import Config
from models.networks.registry import FAMILIES
from models.training.config import from_json
from models.training.device import enough_memory, same_bits
from models.training.fingerprint import fingerprint
from models.training.loop import build, train
from models.training.run import Origin, Run, RunError

DATA = circle(users=60)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "graph", TinyGraph)


def sequence(**training: Any) -> Config:
    return config(network={"dropout": 0.3}, training=training)


def graph(**training: Any) -> Config:
    rates = {"learning_rate": 0.01, "weight_decay": 0.0}
    values = {"seed": 1, "epochs": 3, "patience": 3, "batch": 32, **rates, **training}
    return from_json({"family": "graph", "network": {"dimension": 8, "layers": 2}, "training": values}, "toy")


def trained(folder: Path, settings: Config) -> Run:
    run = Run(folder)
    run.start(settings, Origin("toy", "data", "somewhere", None, "circle", fingerprint(DATA, settings)))
    train(build(settings, DATA, circle_features()), DATA, run, torch.device("cpu"))
    return run


def losses(run: Run) -> list[float]:
    return [json.loads(line)["loss"] for line in (run.folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("family", [sequence, graph])
def test_bf16_trains_to_nearly_the_same_loss_and_goes_on_to_the_same_bits(
    family: Any, tmp_path: Path
) -> None:
    exact = trained(tmp_path / "fp32", family())
    whole = trained(tmp_path / "bf16", family(precision="bf16"))
    assert losses(whole) == pytest.approx(losses(exact), rel=0.02)
    assert losses(whole) != losses(exact)
    trained(tmp_path / "parts", family(precision="bf16", epochs=2))
    parts = trained(tmp_path / "parts", family(precision="bf16"))
    assert parts.item_vectors().tobytes() == whole.item_vectors().tobytes()
    assert all(each.dtype == torch.float32 for each in whole.best().values())
    with pytest.raises(RunError, match="another configuration"):
        trained(tmp_path / "bf16", family())


def test_a_gpu_is_asked_for_the_same_bits_while_an_epoch_lasts() -> None:
    with same_bits(torch.device("cpu")):
        assert not torch.are_deterministic_algorithms_enabled()
    with same_bits(torch.device("cuda")):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        (
            sequence,
            "training.positions or training.negatives or network.dimension or tower.hidden or network.length "
            "or network.blocks",
        ),
        (graph, "training.batch or network.dimension or network.layers"),
    ],
)
@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried …")]
)
def test_memory_that_is_used_up_is_a_sentence_with_the_settings_that_the_family_has(
    family: Any, settings: str, error: Exception
) -> None:
    with (
        pytest.raises(TrainingError, match=f"the memory is used up: lower {settings}, or train where"),
        enough_memory(family()),
    ):
        raise error


def test_an_error_that_is_not_about_memory_stays_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="of another kind"), enough_memory(sequence()):
        raise RuntimeError("of another kind")
