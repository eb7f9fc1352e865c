"""Tests the commands ``train`` and ``export``, from a folder of data to a bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from full_disk import full_disk
from small_data import save_picture, write_amazon_plus

from models.__main__ import main
from models.bundle import onnx_export
from models.bundle.backbone import load_encoder
from models.bundle.catalogue import read_catalogue, read_manifest
from models.bundle.whole_model_export import WholeModel
from models.contracts import BACKBONES, ENCODER, ENCODER_INPUT, ITEM_VECTORS, BackboneManifest, sha256_of
from models.contracts.one_writer import one_writer
from models.evaluation import (
    DrawnCandidates,
    EvaluationProtocol,
    candidate_matrix,
    leave_one_out,
    rank_of_target,
    sampled_metrics,
)
from models.saved_arrays import save_matrix
from models.training.config import CONFIGS
from models.training.run import Run, save_tensors

ITEMS = 40
SMALL = [
    "network.dimension=8",
    "network.length=5",
    "tower.hidden=8",
    "training.epochs=2",
    "training.negatives=10",
    "training.positions=64",
]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty coloured items, and sixty users who step through them."""
    folder = tmp_path_factory.mktemp("data") / "steps"
    histories = [[str((5 * user + step) % ITEMS + 1) for step in range(4 + user % 7)] for user in range(60)]
    side = {
        str(i): {
            "title": f"Thing number {i}",
            "image": {"image_path": f"{i}.png", "image_description": {"gpt4o": f"A thing of hue {i}."}},
        }
        for i in range(1, ITEMS + 1)
    }
    for i in range(1, ITEMS + 1):
        save_picture(folder / "photos" / f"{i}.png", (6 * i, 100, 255 - 6 * i))
    return write_amazon_plus(folder, histories, side)


def command(name: str, *options: object, settings: Sequence[str] = ()) -> int:
    return main([name, *map(str, options), *(part for each in settings for part in ("--set", each))])


def manifest_of(bundle: Path, name: str) -> BackboneManifest:
    folder = bundle / BACKBONES / name
    return BackboneManifest.from_json(json.loads((folder / "manifest.json").read_text()))


def trained(data: Path, tmp_path: Path, model: str = "sasrec", *options: object) -> Path:
    runs = tmp_path / "runs"
    assert command("train", "--data", data, "--model", model, "--runs", runs, *options, settings=SMALL) == 0
    return next(path for path in runs.iterdir() if path.name.startswith("steps-"))


def test_two_commands_lead_from_a_folder_of_data_to_a_bundle(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(data, tmp_path, "morec-i")
    assert run.name == "steps-morec-i"
    table = capsys.readouterr().out
    assert "H@1" in table
    assert "1 + 29 candidates" in table
    assert [line.split()[0] for line in table.splitlines()[1:5]] == ["validation", "test", "Random", "Pop"]
    bundle = tmp_path / "bundle"
    assert command("export", "--run", run, "--bundle", bundle) == 0
    manifest = manifest_of(bundle, "morec-i")
    assert (manifest.family, manifest.modalities, manifest.text_view) == ("morec", ("image",), "raw")
    assert (manifest.length, manifest.dimension, manifest.epochs) == (5, 8, 2)
    assert manifest.catalogue_version == read_manifest(bundle).version
    assert manifest.config["network"]["dimension"] == 8
    assert manifest.seconds_per_epoch > 0
    folder = bundle / BACKBONES / "morec-i"
    assert manifest.sha256 == {name: sha256_of(folder / name) for name in (ITEM_VECTORS, ENCODER)}


def test_data_of_which_much_is_left_out_are_trained_and_exported_if_that_is_borne(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = shutil.copytree(data, tmp_path / "steps")
    with (damaged / "sequential.txt").open("a") as stream:
        stream.writelines(f"99{user} 1 2 3\n" for user in range(20))
    runs = ("--model", "sasrec", "--runs", tmp_path / "runs")
    assert command("train", "--data", damaged, *runs, settings=SMALL) == 2
    assert "--max-left-out" in capsys.readouterr().err
    run = trained(damaged, tmp_path, "sasrec", "--max-left-out", "30%")
    assert command("export", "--run", run, "--bundle", tmp_path / "bundle") == 0
    left_out = read_manifest(tmp_path / "bundle").reading["left_out"]
    assert {line["kind"]: line["number"] for line in left_out} == {"users": 20, "interactions": 60}


def test_the_bundle_alone_gives_the_metrics_of_its_manifest(data: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    assert command("export", "--run", trained(data, tmp_path), "--bundle", bundle) == 0
    folder, dataset = bundle / BACKBONES / "sasrec", read_catalogue(bundle)
    vectors, session = np.load(folder / ITEM_VECTORS), onnx_export.encoder_session(folder / ENCODER)
    split = leave_one_out(dataset.histories)
    candidates = candidate_matrix(split.test, DrawnCandidates(dataset.histories, ITEMS))
    scores = [
        vectors[some] @ session.run(None, {ENCODER_INPUT: vectors[example.history[-5:]][None]})[0][0]
        for example, some in zip(split.test, candidates, strict=True)
    ]
    test = manifest_of(bundle, "sasrec").metrics["test"]
    assert sampled_metrics(rank_of_target(np.array(scores))) == {m: test[m] for m in ("H@1", "H@5", "N@5")}
    assert test["protocol"] == EvaluationProtocol().to_json()


def test_the_whole_model_of_a_run_scores_what_its_bundle_scores(data: Path, tmp_path: Path) -> None:
    run, bundle = trained(data, tmp_path, "morec-i"), tmp_path / "bundle"
    assert command("export", "--run", run, "--bundle", bundle) == 0
    folder = bundle / BACKBONES / "morec-i"
    vectors, session = np.load(folder / ITEM_VECTORS), onnx_export.encoder_session(folder / ENCODER)
    history = np.array([7, 2, 30])
    (user,) = session.run(None, {ENCODER_INPUT: vectors[history][None]})
    whole = WholeModel(load_encoder(Run(run)), Run(run).item_vectors(), k=10, last_only=False)
    with torch.inference_mode():
        best, scores = whole(torch.from_numpy(history)[None])
    np.testing.assert_allclose((user @ vectors.T)[0, best[0]], scores[0].numpy(), atol=1e-4)


def test_a_bundle_takes_several_backbones_and_enhanced_ones_read_its_captions(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    class Letters:
        """An encoder that counts letters, in place of one that has to be loaded."""

        identity = "letters"

        def __init__(self, name: str, pooling: str, tokens: int) -> None:
            pass

        def encode(self, inputs: Sequence[str]) -> np.ndarray:
            read.extend(inputs)
            return np.array([[text.count(c) for c in "0123456789"] for text in inputs], dtype=np.float32)

    monkeypatch.setattr("models.features.text.TextEncoder", Letters)
    bundle, runs = tmp_path / "bundle", tmp_path / "runs"
    assert command("export", "--run", trained(data, tmp_path), "--bundle", bundle) == 0
    view = ("--text-view", "enhanced", "--captioner", "gpt4o")
    options = ("--bundle", bundle, "--model", "morec-t", "--runs", runs, *view)
    assert command("train", *options, settings=SMALL) == 0
    assert command("export", "--run", runs / "steps-morec-t-enhanced", "--bundle", bundle) == 0
    assert read[0] == "Thing number 1. A thing of hue 1."
    manifest = manifest_of(bundle, "morec-t-enhanced")
    assert (manifest.text_view, manifest.captioner) == ("enhanced", "gpt4o")
    assert sorted(path.name for path in (bundle / BACKBONES).iterdir()) == ["morec-t-enhanced", "sasrec"]


def test_training_again_goes_on_and_other_settings_are_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(data, tmp_path)
    first = capsys.readouterr().out
    trained(data, tmp_path)
    assert capsys.readouterr().out == first
    options = ("--data", data, "--model", "sasrec", "--runs", run.parent)
    assert command("train", *options, settings=[*SMALL, "training.seed=5"]) == 2
    assert "another configuration or other data" in capsys.readouterr().err


def test_a_run_does_not_go_into_a_bundle_of_other_data(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_amazon_plus(tmp_path / "other", [["1", "2", "3"], ["2", "3", "1"]])
    bundle = tmp_path / "bundle"
    assert command("data", "--data", other, "--bundle", bundle) == 0
    assert command("export", "--run", trained(data, tmp_path), "--bundle", bundle) == 2
    assert "was trained on other items, histories, captions or pictures" in capsys.readouterr().err
    assert not (bundle / BACKBONES).exists()


def test_changed_titles_are_neither_taken_for_trained_nor_exported(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, bundle = tmp_path / "steps", tmp_path / "bundle"
    shutil.copytree(data, copy)
    run = trained(copy, tmp_path)
    side = copy / "item2side.json"
    side.write_text(side.read_text().replace("Thing number 7", "Something else"))
    again = ("--data", copy, "--model", "sasrec", "--runs", run.parent)
    assert command("train", *again, settings=SMALL) == 2
    assert "give this one another --name, or delete that folder" in capsys.readouterr().err
    assert command("export", "--run", run, "--bundle", bundle) == 2
    assert "was trained on other items, histories, captions or pictures" in capsys.readouterr().err
    assert not bundle.exists()


def test_a_run_that_read_pictures_is_refused_after_one_changed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "steps"
    shutil.copytree(data, copy)
    trained(copy, tmp_path, "morec-i")
    save_picture(copy / "photos" / "7.png", (1, 2, 3))
    again = ("--data", copy, "--model", "morec-i", "--runs", tmp_path / "runs")
    assert command("train", *again, settings=SMALL) == 2
    assert "other data" in capsys.readouterr().err


def test_a_run_of_a_version_without_this_fingerprint_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(data, tmp_path)
    record = json.loads((run / "config.json").read_text())
    record["origin"]["fingerprint"] = "0123456789abcdef"
    (run / "config.json").write_text(json.dumps(record))
    assert command("train", "--data", data, "--model", "sasrec", "--runs", run.parent, settings=SMALL) == 2
    assert command("export", "--run", run, "--bundle", tmp_path / "bundle") == 2
    assert "by an older version" in capsys.readouterr().err


def test_a_run_from_before_families_had_names_goes_on_and_is_exported_as_before(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, bundle = trained(data, tmp_path, "morec-i"), tmp_path / "bundle"
    assert command("export", "--run", run, "--bundle", bundle) == 0
    version = manifest_of(bundle, "morec-i").version
    record = json.loads((run / "config.json").read_text())
    assert record["config"].pop("family") == "morec"
    (run / "config.json").write_text(json.dumps(record))
    assert command("export", "--run", run, "--bundle", bundle) == 0
    assert manifest_of(bundle, "morec-i").version == version
    assert manifest_of(bundle, "morec-i").family == "morec"
    capsys.readouterr()
    trained(data, tmp_path, "morec-i")
    assert "H@1" in capsys.readouterr().out


def test_a_disagreement_between_runtimes_leaves_the_bundle_as_it_was(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, bundle = trained(data, tmp_path), tmp_path / "bundle"
    assert command("export", "--run", run, "--bundle", bundle) == 0
    before = manifest_of(bundle, "sasrec")

    def drifted(network: torch.nn.Module, path: Path) -> None:
        with torch.no_grad():
            network.positions[-1] += torch.arange(8)
        onnx_export.export_encoder(network, path)
        with torch.no_grad():
            network.positions[-1] -= torch.arange(8)

    monkeypatch.setattr("models.bundle.backbone.export_encoder", drifted)
    assert command("export", "--run", run, "--bundle", bundle) == 2
    assert "ONNX Runtime and torch differ" in capsys.readouterr().err
    assert manifest_of(bundle, "sasrec") == before
    assert [path.name for path in (bundle / BACKBONES).iterdir()] == ["sasrec"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--set", "network.size=3"), "unknown key network.size"),
        (("--name", "../x"), "'../x' is no name of a folder"),
        (("--name", ".."), "'..' is no name of a folder"),
        (("--name", ""), "'' is no name of a folder"),
        (("--runs", __file__), "test_train_and_export.py is no folder"),
        (("--device", "abacus"), "--device 'abacus' is no device that torch knows"),
        (("--text-view", "enhanced"), "text_view enhanced needs a captioner"),
        (("--text-view", "enhanced", "--captioner", "gpt4o"), "needs text among the modalities"),
    ],
)
def test_wrong_options_end_with_one_sentence(
    options: tuple[str, ...], complaint: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("train", "--data", data, "--model", "sasrec", "--runs", tmp_path, *options) == 2
    assert complaint in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_setting_is_told_before_the_data_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--data", tmp_path / "none", "--model", "sasrec", "--runs", tmp_path)
    assert command("train", *asked, settings=["network.heads=0"]) == 2
    assert "heads" in capsys.readouterr().err


def test_a_training_takes_the_values_of_its_own_data_set(data: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    text = (CONFIGS / "sasrec.toml").read_text(encoding="utf-8")
    text += "\n[datasets.steps.training]\nseed = 7\n[datasets.other.training]\nseed = 8\n"
    own.write_text(text, encoding="utf-8")
    asked = ("--data", data, "--config", own, "--runs", tmp_path / "runs")
    assert command("train", *asked, settings=[*SMALL, "training.epochs=1"]) == 0
    assert Run(tmp_path / "runs" / "steps-own").config().training.seed == 7


def test_cuda_is_refused_where_there_is_none(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    options = ("--data", data, "--model", "sasrec", "--runs", tmp_path, "--device", "cuda")
    assert command("train", *options) == 2
    assert "use --device cpu" in capsys.readouterr().err


def test_export_says_what_is_wrong_with_a_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    assert command("export", "--run", tmp_path, "--bundle", bundle) == 2
    assert "is not a run folder" in capsys.readouterr().err
    run = trained(data, tmp_path)
    assert command("export", "--run", run, "--bundle", bundle, "--name", "../up") == 2
    assert "must be made of a-z" in capsys.readouterr().err
    (run / "result.json").unlink()
    assert command("export", "--run", run, "--bundle", bundle) == 2
    assert "is not finished" in capsys.readouterr().err


def test_published_candidates_are_refused_before_anything_is_trained_where_there_are_none(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--model", "sasrec", "--runs", tmp_path, "--candidates", "published"]
    assert command("train", "--data", data, *asked) == 2
    assert "publishes no negatives: leave --candidates published out" in capsys.readouterr().err
    assert command("data", "--data", data, "--bundle", tmp_path / "bundle") == 0
    assert command("train", "--bundle", tmp_path / "bundle", *asked) == 2
    assert "is a bundle and holds no published candidates: train with --data" in capsys.readouterr().err
    assert not list(tmp_path.glob("steps-*"))


@pytest.mark.parametrize(
    ("model", "options", "complaint"),
    [
        ("morec-t", ("--text-view", "enhanced", "--captioner", "unknown"), "has no captions by 'unknown'"),
        ("morec-i", ("--set", "features.image_encoder=/nowhere"), "the image encoder '/nowhere' cannot be"),
        ("sasrec", ("--device", "meta"), "cannot compute on it; use --device cpu"),
        ("sasrec", ("--set", "training.learning_rate=nan"), "training.learning_rate must be a finite number"),
        ("sasrec", ("--set", "training.learning_rate=1e30"), "lower training.learning_rate"),
    ],
)
def test_a_refused_training_leaves_no_run_that_binds_the_corrected_one(
    model: str,
    options: tuple[str, ...],
    complaint: str,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call = ("train", "--data", data, "--model", model, "--runs", tmp_path, "--name", "x", *options)
    assert command(*call, settings=SMALL) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_second_training_or_export_is_refused_while_the_first_one_writes(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, bundle = trained(data, tmp_path), tmp_path / "bundle"
    again = ("train", "--data", data, "--model", "sasrec", "--runs", run.parent)
    with one_writer(run), one_writer(bundle):
        assert command(*again, settings=SMALL) == 2
        assert command("export", "--run", run, "--bundle", bundle) == 2
        assert command("data", "--data", data, "--bundle", bundle) == 2
    assert capsys.readouterr().err.count("another run writes") == 3
    assert not bundle.exists()
    assert command("export", "--run", run, "--bundle", bundle) == 0


@pytest.mark.parametrize("fault", ["name", "vectors", "weights", "disk"])
def test_a_refused_export_leaves_no_bundle(
    fault: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, bundle = trained(data, tmp_path), tmp_path / "bundle"
    options = ("--name", "../up") if fault == "name" else ()
    if fault == "vectors":
        save_matrix(run / ITEM_VECTORS, np.zeros((3, 8), dtype=np.float32))
    elif fault == "weights":
        save_tensors(run / "best.pt", {"network.positions": torch.zeros(1)})
    with full_disk(6_000) if fault == "disk" else nullcontext():
        assert command("export", "--run", run, "--bundle", bundle, *options) == 2
    assert "error: " in capsys.readouterr().err
    assert not bundle.exists()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("model", "least"), [("sasrec", (0.28, 0.54, 0.415)), ("morec-t", (0.0, 0.0, 0.44))])
def test_beauty_reaches_the_promised_accuracy(
    model: str, least: tuple[float, float, float], real_data: Path, tmp_path: Path
) -> None:
    beauty = real_data / "amazon_review" / "beauty"
    assert command("train", "--data", beauty, "--model", model, "--runs", tmp_path) == 0
    test = json.loads((tmp_path / f"beauty-{model}" / "result.json").read_text())["metrics"]["test"]
    assert test["users"] == 22_363
    assert all(test[m] >= bound for m, bound in zip(("H@1", "H@5", "N@5"), least, strict=True))
