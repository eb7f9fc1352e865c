from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from toy_models import circle, circle_features, config

from models.errors import TrainingError
from models.training.fingerprint import fingerprint
from models.training.loop import build, train
from models.training.run import Origin, Run
from models.training.tensorboard import require_tensorboard

DATA = circle(users=60)


class Writer:
    """What TensorBoard shows of the files in a folder: later ones replace steps from ``purge_step`` on."""

    shown: ClassVar[dict[str, dict[tuple[str, int], float]]] = {}

    def __init__(self, folder: str, purge_step: int) -> None:
        kept = {key: value for key, value in self.shown.get(folder, {}).items() if key[1] < purge_step}
        self.shown[folder] = self._points = kept

    def add_scalar(self, name: str, value: float, step: int) -> None:
        assert (name, step) not in self._points
        self._points[name, step] = value

    def flush(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(Writer, "shown", {})


def trained(folder: Path, epochs: int, board: Path | None) -> None:
    settings, run = config(training={"epochs": epochs}), Run(folder)
    run.start(settings, Origin("toy", "data", "somewhere", None, "circle", fingerprint(DATA, settings)))
    network = build(settings, DATA, circle_features())
    train(network, DATA, run, torch.device("cpu"), tensorboard=board)


@pytest.mark.usefixtures("installed")
def test_tensorboard_shows_every_epoch_once_however_often_a_run_goes_on(tmp_path: Path) -> None:
    board = tmp_path / "board"
    trained(tmp_path / "run", 1, None)
    trained(tmp_path / "run", 2, board)
    trained(tmp_path / "run", 3, board)
    points = Writer.shown[str(board)]
    assert [step for name, step in points if name == "N@5"] == [1, 2, 3]
    assert {"loss", "full.N@10", "seconds"} <= {name for name, _ in points}


def test_a_missing_tensorboard_is_a_sentence_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainingError, match="pip install tensorboard, or leave the option out"):
        require_tensorboard()
