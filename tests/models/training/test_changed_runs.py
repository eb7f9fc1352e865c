"""Runs that are called again: with more epochs, with damaged files, on a full disk, twice at once."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from full_disk import full_disk
from toy_models import circle, config

from models.data.dataset import Dataset
from models.errors import TrainingError, WriteError
from models.networks.config import Config
from models.networks.tower_recommender import TowerRecommender
from models.training.fingerprint import fingerprint
from models.training.loop import build, train
from models.training.run import Origin, Run, RunError, save_tensors

CPU = torch.device("cpu")
DATA = circle(users=60)


def settings(epochs: int = 2, patience: int = 9, **training: Any) -> Config:
    return config(network={"dropout": 0.3}, training={"epochs": epochs, "patience": patience, **training})


def called(folder: Path, chosen: Config, dataset: Dataset = DATA) -> tuple[TowerRecommender, dict[str, Any]]:
    """Trains in a folder as the command does."""
    network, run = build(chosen, dataset, {}), Run(folder)
    assert isinstance(network, TowerRecommender)
    run.start(chosen, Origin("toy", "data", "somewhere", None, dataset.name, fingerprint(dataset, chosen)))
    return network, train(network, dataset, run, CPU)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "two"
    called(folder, settings())
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TowerRecommender, dict[str, Any]]:
    """A run that had four epochs from the beginning: its folder, network and result."""
    folder = tmp_path_factory.mktemp("runs") / "four"
    return folder, *called(folder, settings(epochs=4))


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A finished run of two epochs."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that differs by its seed alone."""
    folder = tmp_path_factory.mktemp("runs") / "other"
    called(folder, settings(seed=7))
    return folder


def _largest_tensor(path: Path) -> int:
    """Returns the place of a byte of the largest tensor in a file of tensors."""
    with zipfile.ZipFile(path) as archive:
        largest = max((i for i in archive.infolist() if "/data/" in i.filename), key=lambda i: i.file_size)
        return path.read_bytes().index(archive.read(largest))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return Run(folder).best()


def test_a_finished_run_with_more_epochs_ends_as_one_that_had_them_from_the_beginning(
    folder: Path, whole: tuple[Path, TowerRecommender, dict[str, Any]]
) -> None:
    network, result = called(folder, settings(epochs=4))
    whole_folder, uninterrupted, expected = whole
    for key, value in uninterrupted.state_dict().items():
        assert torch.equal(network.state_dict()[key], value)
    assert [result[name] for name in ("epochs", "best_epoch", "metrics")] == [
        expected[name] for name in ("epochs", "best_epoch", "metrics")
    ]
    assert Run(folder).config() == settings(epochs=4)
    assert np.array_equal(Run(folder).item_vectors(), Run(whole_folder).item_vectors())


def test_a_run_that_patience_ended_goes_on_with_more_of_it_and_only_then(tmp_path: Path) -> None:
    impatient = {"learning_rate": 0.05, "epochs": 12}
    _, first = called(tmp_path, settings(patience=1, **impatient))
    assert first["epochs"] < 12
    assert called(tmp_path, settings(patience=1, **impatient | {"epochs": 13}))[1] == first
    _, more = called(tmp_path, settings(patience=2, **impatient))
    assert more["epochs"] > first["epochs"]
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(RunError, match=f"ends after {first['epochs']}: give this one another --name"):
        called(tmp_path, settings(patience=1, **impatient))
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_run_that_goes_on_is_not_finished_until_it_ends_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.training.loop.train_epoch", _killed)
    with pytest.raises(KeyboardInterrupt):
        called(folder, settings(epochs=4))
    assert Run(folder).result() is None


def _killed(*_: object) -> float:
    raise KeyboardInterrupt


def test_a_finished_run_without_its_checkpoint_does_not_go_on(folder: Path) -> None:
    (folder / "checkpoint.pt").unlink()
    assert called(folder, settings())[1]["epochs"] == 2
    with pytest.raises(RunError, match=r"has no checkpoint.pt any more.*another --name"):
        called(folder, settings(epochs=4))


class _Malicious:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return Path.touch, (Path("harmed"),)  # type: ignore[return-value]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(_Malicious()))


def _list(path: Path) -> None:
    torch.save([1, 2], path) if path.suffix == ".pt" else path.write_text("[1, 2]")


DAMAGES = [_cut, _empty, _folder, _pickle, _list]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["checkpoint.pt", "best.pt", "config.json"])
def test_a_damaged_file_of_a_run_under_way_is_named_with_what_to_do(
    name: str, damage: Callable[[Path], None], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (folder / "result.json").unlink()
    damage(folder / name)
    with pytest.raises(RunError, match=rf"{name} is damaged: delete .* train"):
        called(folder, settings(epochs=4))
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("damage", [*DAMAGES, Path.unlink])
@pytest.mark.parametrize("name", ["result.json", "item_vectors.npy"])
def test_a_damaged_outcome_is_made_anew_by_the_same_train(
    name: str, damage: Callable[[Path], None], folder: Path, finished: Path
) -> None:
    damage(folder / name)
    if damage is _folder:
        shutil.rmtree(folder / name)
        damage = Path.unlink
    called(folder, settings())
    assert Run(folder).result() == Run(finished).result()
    assert np.array_equal(Run(folder).item_vectors(), Run(finished).item_vectors())


@pytest.mark.parametrize("name", ["best.pt", "item_vectors.npy"])
def test_a_file_of_another_run_of_the_same_shape_is_not_taken_for_its_own(
    name: str, folder: Path, other: Path
) -> None:
    shutil.copy(other / name, folder / name)
    run = Run(folder)
    with pytest.raises(RunError, match=rf"{name} is"):
        run.best() if name == "best.pt" else run.item_vectors()


def test_a_checkpoint_of_another_run_is_not_gone_on_with(folder: Path, other: Path) -> None:
    shutil.copy(other / "checkpoint.pt", folder / "checkpoint.pt")
    with pytest.raises(RunError, match=r"checkpoint\.pt is of another run: delete it"):
        called(folder, settings(epochs=4))


@pytest.mark.parametrize("name", ["best.pt", "checkpoint.pt"])
def test_one_wrong_bit_among_the_weights_is_noticed(name: str, folder: Path) -> None:
    content = bytearray((folder / name).read_bytes())
    content[_largest_tensor(folder / name)] ^= 1
    (folder / name).write_bytes(content)
    (folder / "result.json").unlink()
    with pytest.raises(RunError, match=rf"{name} is damaged"):
        called(folder, settings(epochs=4))


def test_a_run_whose_best_weights_are_gone_is_not_told_to_train_to_its_end(folder: Path) -> None:
    (folder / "best.pt").unlink()
    with pytest.raises(RunError, match=r"best\.pt is missing: delete .* and call the same train again"):
        called(folder, settings())


def test_a_training_judged_over_the_whole_catalogue_goes_on_too(tmp_path: Path) -> None:
    few = replace(DATA, items=DATA.items[:20], histories=tuple(rows % 20 for rows in DATA.histories[:9]))
    few = replace(few, users=few.users[:9])
    called(tmp_path / "run", settings(epochs=1), few)
    network, result = called(tmp_path / "run", settings(epochs=2), few)
    whole, _ = called(tmp_path / "whole", settings(epochs=2), few)
    assert (result["epochs"], result["selected_by"]) == (2, "full.N@10")
    assert all(torch.equal(network.state_dict()[key], value) for key, value in whole.state_dict().items())


def test_a_damaged_outcome_is_named_to_export(folder: Path) -> None:
    _cut(folder / "result.json")
    _cut(folder / "item_vectors.npy")
    with pytest.raises(RunError, match=r"result\.json is damaged: call the same `python"):
        Run(folder).result()
    with pytest.raises(RunError, match=r"item_vectors.npy is of no use \(it is damaged\): call the same"):
        Run(folder).item_vectors()


@pytest.mark.parametrize("name", ["checkpoint.pt", "best.pt"])
@pytest.mark.parametrize(("value", "complaint"), [(np.nan, "not numbers"), (None, "of another network")])
def test_weights_that_do_not_fit_or_are_no_numbers_are_refused(
    name: str, value: float | None, complaint: str, folder: Path
) -> None:
    state = torch.load(folder / name, weights_only=True)
    table = state["weights"] if name == "checkpoint.pt" else state
    key = "network.positions"
    table[key] = torch.zeros(3) if value is None else torch.full_like(table[key], value)
    save_tensors(folder / name, state)
    (folder / "result.json").unlink()
    with pytest.raises(RunError, match=rf"{name} holds .*weights .*{complaint}"):
        called(folder, settings(epochs=4))


def test_weights_without_a_configuration_are_not_taken_for_another_run(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(RunError, match=r"has weights and no config\.json"):
        called(folder, settings())


def test_a_start_that_left_no_weights_binds_nothing(tmp_path: Path) -> None:
    run, origin = Run(tmp_path), Origin("toy", "data", "somewhere", None, "toy", "0")
    run.start(settings(seed=5), origin)
    called(tmp_path, settings(epochs=1))
    run.discard_untrained()
    assert (tmp_path / "config.json").exists()


@pytest.mark.parametrize("most", [0, 3_000])
def test_a_full_disk_is_one_sentence_keeps_the_old_files_and_the_run_goes_on(
    most: int, folder: Path, whole: tuple[Path, TowerRecommender, dict[str, Any]]
) -> None:
    before = {path.name: path.read_bytes() for path in folder.glob("*.pt")}
    origin = Run(folder).origin()
    Run(folder).start(settings(epochs=4), origin)
    with (
        full_disk(most),
        pytest.raises(WriteError, match=r"cannot write .*: the disk is full;"),
    ):
        train(build(settings(epochs=4), DATA, {}), DATA, Run(folder), CPU)
    assert {path.name: path.read_bytes() for path in folder.glob("*.pt")} == before
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    _, result = called(folder, settings(epochs=4))
    assert result["metrics"] == whole[2]["metrics"]


def test_weights_that_the_last_step_breaks_are_never_saved(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = torch.optim.AdamW.step

    def breaks(self: torch.optim.Optimizer, *args: Any) -> None:
        step(self, *args)  # type: ignore[arg-type]
        with torch.no_grad():
            self.param_groups[0]["params"][0][0] = np.nan

    monkeypatch.setattr(torch.optim.AdamW, "step", breaks)
    batches = TowerRecommender.batches
    monkeypatch.setattr(TowerRecommender, "batches", lambda self, draw: batches(self, draw)[:1])
    with pytest.raises(TrainingError, match="epoch 3 ends with weights that are not numbers: lower"):
        called(folder, settings(epochs=4))
    monkeypatch.undo()
    assert called(folder, settings(epochs=4))[1]["epochs"] == 4


def test_the_log_says_what_is_done_about_a_damaged_result(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _cut(folder / "result.json")
    with caplog.at_level(logging.WARNING):
        called(folder, settings())
    assert "the last step is done again" in caplog.text
    assert json.loads((folder / "result.json").read_text())["epochs"] == 2


def _as_an_older_version_wrote(folder: Path, rename: dict[str, str]) -> None:
    """Takes away what is new in a run: settings, both metrics, their names, times of validation."""
    config = json.loads((folder / "config.json").read_text())
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    for record in (config, state["run"]):
        record["config"]["training"] = {
            key: value
            for key, value in record["config"]["training"].items()
            if key not in ("select", "precision")
        }
        del record["origin"]["part"]
    del state["progress"]["selected_by"]
    for line in state["progress"]["log"]:
        new = {key: line.pop(key) for key in list(line) if key.startswith(("full.", "validation_"))}
        line.update({rename[key]: value for key, value in new.items() if key in rename})
    (folder / "config.json").write_text(json.dumps(config))
    save_tensors(folder / "checkpoint.pt", state)
    (folder / "result.json").unlink()


def test_a_run_of_an_older_version_goes_on(
    folder: Path, whole: tuple[Path, TowerRecommender, dict[str, Any]]
) -> None:
    _as_an_older_version_wrote(folder, {})
    network, result = called(folder, settings(epochs=4))
    assert (result["selected_by"], result["metrics"]) == ("N@5", whole[2]["metrics"])
    assert all(torch.equal(network.state_dict()[k], v) for k, v in whole[1].state_dict().items())
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert ["full.N@10" in line for line in lines] == [False, False, True, True]


def test_a_run_of_an_older_version_without_candidates_goes_on(tmp_path: Path) -> None:
    few = replace(DATA, items=DATA.items[:20], histories=tuple(rows % 20 for rows in DATA.histories[:9]))
    few = replace(few, users=few.users[:9])
    called(tmp_path / "run", settings(epochs=2), few)
    _as_an_older_version_wrote(tmp_path / "run", {"full.H@10": "H@10", "full.N@10": "N@10"})
    _, result = called(tmp_path / "run", settings(epochs=4), few)
    _, whole = called(tmp_path / "whole", settings(epochs=4), few)
    assert (result["selected_by"], result["metrics"]) == ("full.N@10", whole["metrics"])
