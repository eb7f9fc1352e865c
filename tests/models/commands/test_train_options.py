"""Options of ``train``: time, precision, a training anew, TensorBoard; and processes that are killed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from graph_family import TinyGraph
from small_data import save_picture, write_amazon_plus

from models.__main__ import main
from models.contracts.manifests import read_backbone_manifest
from models.networks.registry import FAMILIES
from models.training.run import Run
from service.candidates.registry import open_backbone
from service.catalogue.bundle import open_bundle

ITEMS = 40
RATES = "learning_rate = 0.01\nweight_decay = 0.0\n"
GRAPH = (
    f'family = "graph"\n[network]\ndimension = 8\nlayers = 2\n[training]\nseed = 1\npatience = 9\n{RATES}'
    "batch = 32\nepochs = 3\n"
)
SEQUENCE = (
    'family = "sasrec"\n[network]\ndimension = 8\nlength = 5\nblocks = 1\nheads = 2\ndropout = 0.3\n'
    '[tower]\nmodalities = ["id"]\nfusion = "sum"\nhidden = 8\ndropout = 0.0\n[training]\nseed = 1\n'
    f"patience = 9\n{RATES}epochs = 3\npositions = 64\nnegatives = 10\nlog_q = false\ntemperature = 1.0\n"
)
BM3 = (
    f'family = "bm3"\n[network]\ndimension = 8\nmodalities = ["image"]\nlayers = 1\ndropout = 0.3\n'
    f"[training]\nseed = 1\npatience = 9\n{RATES}batch = 32\nepochs = 3\ncontent_weight = 2.0\n"
    "regularisation = 0.01\n"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty coloured items, and sixty users who step through them."""
    folder = tmp_path_factory.mktemp("data") / "steps"
    histories = [[str((5 * user + step) % ITEMS + 1) for step in range(4 + user % 7)] for user in range(60)]
    side = {str(i): {"image": {"image_path": f"{i}.png"}} for i in range(1, ITEMS + 1)}
    for i in range(1, ITEMS + 1):
        save_picture(folder / "photos" / f"{i}.png", (6 * i, 100, 255 - 6 * i))
    return write_amazon_plus(folder, histories, side)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "graph", TinyGraph)


def arguments(data: Path, folder: Path, toml: str, *options: object) -> list[str]:
    folder.mkdir(exist_ok=True)
    (folder / "toy.toml").write_text(toml)
    where = ["--data", data, "--config", folder / "toy.toml", "--runs", folder / "runs"]
    return ["train", *map(str, [*where, *options])]


def test_refit_prints_both_rows_and_the_second_run_is_exported_as_any_other(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = arguments(data, tmp_path, GRAPH, "--refit")
    assert main([*command, "--users", "30"]) == 0
    shown = capsys.readouterr().out
    run, again = Run(tmp_path / "runs" / "steps-toy"), Run(tmp_path / "runs" / "steps-toy-refit")
    for row, source in (("test  ", run), ("test, refit", again)):
        (line,) = (line for line in shown.splitlines() if line.startswith(row))
        figures = (source.result() or {})["metrics"]["test_drawn_of_30"]
        assert line.split()[-6:] == [
            *(f"{100 * figures[name]:.2f}" for name in ("H@1", "H@5", "N@5")),
            *(f"{100 * figures['full'][name]:.2f}" for name in ("H@10", "N@10")),
            "30",
        ]
    assert f"refit        {again.folder}" in shown
    evaluations = (tmp_path / "runs" / "test-evaluations.jsonl").read_text().splitlines()
    assert [(line["run"], line["part"]) for line in map(json.loads, evaluations)] == [
        (name, part) for name in ("steps-toy", "steps-toy-refit") for part in ("test", "test_drawn_of_30")
    ]
    assert main(["export", "--run", str(again.folder), "--bundle", str(tmp_path / "bundle")]) == 0
    manifest = read_backbone_manifest(tmp_path / "bundle" / "backbones" / "toy-refit")
    assert manifest.metrics == (again.result() or {})["metrics"]
    served = open_backbone(open_bundle(tmp_path / "bundle").backbones["toy-refit"])
    expected = again.user_vectors()[7] @ again.item_vectors().T
    np.testing.assert_allclose(served.score(7, [], range(ITEMS)), expected, rtol=1e-4, atol=1e-6)
    capsys.readouterr()
    assert main([*command, "--users", "30"]) == 0
    assert capsys.readouterr().out == shown
    assert (tmp_path / "runs" / "test-evaluations.jsonl").read_text().splitlines() == evaluations


def test_a_family_that_only_counts_has_no_refit(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from followers_family import Followers

    monkeypatch.setitem(FAMILIES, "followers", Followers)
    assert main(arguments(data, tmp_path, 'family = "followers"\n[training]\nseed = 1\n', "--refit")) == 2
    assert "--refit: followers only counts" in capsys.readouterr().err


def test_minutes_end_a_training_which_goes_on_without_them(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = arguments(data, tmp_path, SEQUENCE)
    assert main([*command, "--minutes", "1e-6"]) == 0
    assert "epochs       1 (best 1)" in (shown := capsys.readouterr().out)
    assert "ended by     its minutes; validation still rises; 0.0 hours to the last epoch" in shown
    assert main(command) == 0
    assert "epochs       3 " in (shown := capsys.readouterr().out)
    assert "its minutes" not in shown
    for wrong in ("0", "nan", "inf", "soon"):
        with pytest.raises(SystemExit):
            main([*command, "--minutes", wrong])


def test_precision_is_a_setting_of_the_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = arguments(data, tmp_path, SEQUENCE, "--precision", "bf16")
    assert main(command) == 0
    record = Run(tmp_path / "runs" / "steps-toy").config().to_json()
    assert record["training"]["precision"] == "bf16"
    assert main([*command[:-1], "fp32"]) == 2
    assert "holds a run with another configuration" in capsys.readouterr().err


def test_tensorboard_that_is_not_installed_is_told_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert main(arguments(tmp_path / "no data", tmp_path, SEQUENCE, "--tensorboard", tmp_path / "t")) == 2
    assert "--tensorboard needs a package that is not installed" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("toml", [SEQUENCE, BM3])
def test_a_training_and_its_refit_killed_at_random_points_end_with_the_same_bits(
    toml: str, data: Path, tmp_path: Path
) -> None:
    toml = toml.replace("epochs = 3", "epochs = 8")
    options = ("--refit", "--features-cache", tmp_path / "features")
    python = [sys.executable, "-m", "models"]  # both in processes of their own, with equally many threads
    whole = [*python, *arguments(data, tmp_path / "whole", toml, *options)]
    subprocess.run(whole, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    killed = [*python, *arguments(data, tmp_path / "killed", toml, *options)]
    runs, draw, kills = tmp_path / "killed" / "runs", random.Random(7), 0
    while True:
        with subprocess.Popen(killed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            for _ in range(draw.randint(1, 8)):  # weights that it writes, two files an epoch
                before = written(runs)
                while written(runs) == before and process.poll() is None:
                    time.sleep(0.002)
            time.sleep(draw.random() * 0.05)  # anywhere in an epoch, a validation or a write
            process.send_signal(signal.SIGKILL)
        if process.returncode == 0:
            break
        kills += 1
    assert kills >= 3
    for name in ("steps-toy", "steps-toy-refit"):
        one, other = Run(tmp_path / "whole" / "runs" / name), Run(runs / name)
        assert one.item_vectors().tobytes() == other.item_vectors().tobytes()
        assert (one.result() or {})["metrics"] == (other.result() or {})["metrics"]


def written(runs: Path) -> list[tuple[str, int]]:
    """Files of the runs and their times, which change as a training goes on."""
    return sorted((str(file), file.stat().st_mtime_ns) for file in runs.glob("*/*.pt"))
