"""A training that dies at any of its writes goes on to the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
import torch
from graph_family import TinyGraph
from toy_models import circle, circle_features

from models.networks.registry import FAMILIES
from models.training.config import from_json
from models.training.fingerprint import fingerprint
from models.training.loop import build, train
from models.training.run import Origin, Run, save_tensors

DATA = circle(users=40)
EPOCHS = 2
FILES = {"config.json", "best.pt", "log.jsonl", "checkpoint.pt"}
FILES |= {"item_vectors.npy", "user_vectors.npy", "result.json"}


class Killed(BaseException):
    """What happens to a process."""


def trained(folder: Path) -> Run:
    training = {"seed": 1, "epochs": EPOCHS, "patience": 9, "batch": 32}
    rates = {"learning_rate": 0.01, "weight_decay": 0.0}
    record = {"family": "graph", "network": {"dimension": 4, "layers": 1}, "training": {**training, **rates}}
    settings, run = from_json(record, "toy"), Run(folder)
    run.start(settings, Origin("toy", "data", "somewhere", None, "circle", fingerprint(DATA, settings)))
    train(build(settings, DATA, circle_features()), DATA, run, torch.device("cpu"))
    return run


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "graph", TinyGraph)


def test_a_training_killed_after_any_of_its_writes_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, written = Path.replace, list[str]()

    def noted(self: Path, target: Path) -> Any:
        written.append(target.name)
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", noted)
        whole = trained(tmp_path / "whole")
    assert set(written) == FILES

    for at in range(len(written)):
        left = at

        def dies(self: Path, target: Path) -> Any:
            nonlocal left
            replace(self, target)
            left -= 1
            if left < 0:
                raise Killed

        folder = tmp_path / str(at)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", dies)
            with pytest.raises(Killed):
                trained(folder)
        again = trained(folder)
        assert again.item_vectors().tobytes() == whole.item_vectors().tobytes(), written[at]
        assert again.user_vectors().tobytes() == whole.user_vectors().tobytes(), written[at]
        assert outcome(again) == outcome(whole)


def outcome(run: Run) -> tuple[Any, ...]:
    """What a run says of itself, without its times."""
    log = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    epochs = [(line["epoch"], line["loss"], line["N@5"]) for line in log]
    result = run.result() or {}
    return result["epochs"], result["best_epoch"], result["metrics"], epochs


def test_a_ctrl_c_while_weights_are_saved_is_one_and_keeps_the_weights_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "best.pt"
    save_tensors(path, {"weights": torch.zeros(3)})

    def stops(state: dict[str, Any], stream: BinaryIO) -> None:
        saved(state, cast(BinaryIO, _Stops(stream)))

    saved = torch.save
    monkeypatch.setattr(torch, "save", stops)
    with pytest.raises(KeyboardInterrupt):
        save_tensors(path, {"weights": torch.ones(3)})
    assert torch.equal(torch.load(path, weights_only=True)["weights"], torch.zeros(3))


class _Stops:
    """A file at whose second write Ctrl-C is pressed."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._calls = stream, 0

    def write(self, content: bytes) -> int:
        self._calls += 1
        if self._calls == 2:
            raise KeyboardInterrupt
        return self._stream.write(content)
