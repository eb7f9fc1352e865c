"""Tests that a bundle is either opened whole or refused with a sentence that says what to do."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from bundles import write_bundle, write_graph_backbone

from models.contracts import BundleError, sha256_of
from service.catalogue.bundle import open_bundle


@pytest.fixture
def damaged(bundle_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))


def test_a_bundle_opens_with_all_its_parts(bundle_folder: Path) -> None:
    bundle = open_bundle(bundle_folder)
    assert set(bundle.backbones) == {"blocks-raw", "blocks-enhanced"}
    assert len(bundle.catalogue.items) == 48
    assert bundle.catalogue.rows["I007"] == 7
    assert bundle.catalogue.histories.get("u1") == [5, 9, 13, 17]
    assert bundle.catalogue.histories.get("nobody") is None
    assert bundle.catalogue.captions["simulator"][0] == "A red mug."
    assert bundle.backbones["blocks-raw"].item_vectors.shape == (48, 9)


def test_popular_items_come_most_interactions_first_and_ties_in_row_order(bundle_folder: Path) -> None:
    catalogue = open_bundle(bundle_folder).catalogue
    pairs = [(-int(catalogue.popularity[row]), int(row)) for row in catalogue.popular]
    assert pairs == sorted(pairs)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no bundle at"):
        open_bundle(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["items.jsonl", "histories.npz", "popularity.npy"])
def test_a_changed_file_is_refused_by_its_hash(damaged: Path, name: str) -> None:
    with (damaged / "catalogue" / name).open("ab") as stream:
        stream.write(b"\n")
    with pytest.raises(BundleError, match=f"{name} is not the file that was exported"):
        open_bundle(damaged)


@pytest.mark.parametrize("name", ["item_vectors.npy", "encoder.onnx", "manifest.json"])
def test_a_missing_file_of_a_backbone_is_named(damaged: Path, name: str) -> None:
    for backbone in (damaged / "backbones").iterdir():
        (backbone / name).unlink()
    with pytest.raises(BundleError, match=name if name != "manifest.json" else "has no backbone"):
        open_bundle(damaged)


def test_another_schema_version_is_refused_with_what_to_do(damaged: Path) -> None:
    path = damaged / "catalogue" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(BundleError, match="schema version 99 and this code reads 1: export it again"):
        open_bundle(damaged)


def test_a_manifest_that_is_cut_in_half_is_refused(damaged: Path) -> None:
    path = damaged / "catalogue" / "manifest.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(BundleError, match="is not JSON"):
        open_bundle(damaged)


def test_a_backbone_of_another_catalogue_is_refused(damaged: Path, tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "other", items=20)
    shutil.rmtree(damaged / "backbones" / "blocks-raw")
    shutil.copytree(other / "backbones" / "blocks-raw", damaged / "backbones" / "blocks-raw")
    with pytest.raises(BundleError, match="was trained on catalogue"):
        open_bundle(damaged)


def test_a_graph_backbone_brings_a_vector_of_every_user(damaged: Path) -> None:
    version = open_bundle(damaged).catalogue.version
    write_graph_backbone(damaged, "graph", version, items=48, users=12)
    backbone = open_bundle(damaged).backbones["graph"]
    assert backbone.encoder is None
    assert backbone.user_vectors is not None
    assert backbone.user_vectors.shape == (12, 9)


def test_user_vectors_that_are_changed_absent_or_of_other_users_are_refused(damaged: Path) -> None:
    version = open_bundle(damaged).catalogue.version
    folder = write_graph_backbone(damaged, "graph", version, items=48, users=11)
    with pytest.raises(BundleError, match=r"is float32 \(11, 9\), expected float32 \(12, 9\)"):
        open_bundle(damaged)
    np.save(folder / "user_vectors.npy", np.ones((12, 9), dtype=np.float32))
    with pytest.raises(BundleError, match=r"user_vectors\.npy is not the file that was exported"):
        open_bundle(damaged)
    (folder / "user_vectors.npy").unlink()
    with pytest.raises(BundleError, match=r"user_vectors\.npy is missing"):
        open_bundle(damaged)


def test_the_version_changes_with_the_contents(tmp_path: Path, bundle_folder: Path) -> None:
    other = open_bundle(write_bundle(tmp_path / "other", users=13))
    assert other.catalogue.version != open_bundle(bundle_folder).catalogue.version


def test_a_caption_line_that_a_killed_run_left_half_written_is_ignored(damaged: Path) -> None:
    path = damaged / "catalogue" / "captions" / "simulator.jsonl"
    before = open_bundle(damaged).catalogue.captions["simulator"]
    with path.open("a") as stream:
        stream.write('{"item_id": "I001", "capti')
    assert open_bundle(damaged).catalogue.captions["simulator"] == before


def test_a_caption_line_that_is_broken_is_left_out_and_named(
    damaged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = damaged / "catalogue" / "captions" / "simulator.jsonl"
    before = open_bundle(damaged).catalogue.captions["simulator"]
    path.write_text('{"item_id": "I001"}\n' + path.read_text())
    assert open_bundle(damaged).catalogue.captions["simulator"] == before
    assert "line 1: left out" in caplog.text


@pytest.mark.parametrize("name", ["half", "My Model", ".blocks-new"])
def test_a_folder_without_a_manifest_is_no_backbone_yet(
    damaged: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    (damaged / "backbones" / name).mkdir()
    (damaged / "backbones" / "notes.txt").touch()
    (damaged / "backbones" / "gone").symlink_to(damaged / "nowhere")
    assert set(open_bundle(damaged).backbones) == {"blocks-raw", "blocks-enhanced"}
    named = [record.args[0] for record in caplog.records if isinstance(record.args, tuple)]
    expected = ["notes.txt", "gone"] + ([] if name.startswith(".") else [name])
    assert sorted(named) == sorted(str(damaged / "backbones" / each) for each in expected)


BACKBONE_FIELDS = {
    "name": ["other", "", "../x", 3, "Ä"],
    "family": [None, "a b", "x" * 65],
    "modalities": [None, "text", ["smell"], ["id", "id"], [[]], {"id": 1}],
    "text_view": ["", "Raw", None, []],
    "captioner": ["a/b", 3, "", "x\n"],
    "catalogue_version": [None, "000000000000", 12],
    "length": [0, -1, True, "10", 1.5, 10**6, None],
    "dimension": [0, 10, 2**40, False],
    "config": [None, []],
    "seed": ["0", 2**64],
    "device": ["", "\u0007", 3],
    "epochs": [-1, 1.5],
    "seconds_per_epoch": [-1, "1", float("nan"), float("inf"), True],
    "metrics": [None, {"validation": {"N@5": float("nan")}}],
    "sha256": [None, {}, {"item_vectors.npy": "0" * 64}, {"../x": "0" * 64}, {"encoder.onnx": 3}],
    "schema_version": ["1", True, None, 1.0, 2],
}


@pytest.mark.parametrize("field", BACKBONE_FIELDS)
def test_a_field_of_a_backbones_manifest_that_is_not_as_it_must_be_is_named(
    damaged: Path, field: str
) -> None:
    path = damaged / "backbones" / "blocks-raw" / "manifest.json"
    record = json.loads(path.read_text())
    for value in BACKBONE_FIELDS[field]:
        path.write_text(json.dumps({**record, field: value}))
        with pytest.raises(BundleError, match=r"blocks-raw.*again"):
            open_bundle(damaged)
    path.write_text(json.dumps({name: record[name] for name in record if name != field}))
    with pytest.raises(BundleError, match=f"{field if field != 'schema_version' else 'schema version None'}"):
        open_bundle(damaged)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_row_of_vectors_that_is_not_a_number_is_named(
    damaged: Path, monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    monkeypatch.setattr("service.catalogue.vectors.BLOCK", 5 * 9)  # five rows at a time
    folder = damaged / "backbones" / "blocks-raw"
    vectors = np.load(folder / "item_vectors.npy")
    vectors[[33, 41], 4] = bad
    np.save(folder / "item_vectors.npy", vectors)
    rehash(folder, "item_vectors.npy")
    with pytest.raises(BundleError, match=r"item_vectors\.npy, row 33: it holds what is not a number"):
        open_bundle(damaged)


@pytest.mark.parametrize(
    "vectors",
    [
        np.zeros((48, 9)),
        np.zeros((9, 48), dtype=np.float32),
        np.zeros((9, 48), dtype=np.float32).T,
        np.zeros((48, 9), dtype=">f4"),
        np.zeros((48, 9), dtype=[("x", "<f4")]),
        np.zeros(48, dtype=np.float32),
        np.zeros((0, 9), dtype=np.float32),
    ],
    ids=["float64", "transposed", "columns first", "big-endian", "records", "one axis", "no rows"],
)
def test_vectors_of_another_form_are_refused(damaged: Path, vectors: np.ndarray) -> None:
    folder = damaged / "backbones" / "blocks-raw"
    np.save(folder / "item_vectors.npy", vectors)
    rehash(folder, "item_vectors.npy")
    with pytest.raises(BundleError, match=r"item_vectors\.npy.*again"):
        open_bundle(damaged)


def rehash(folder: Path, name: str) -> None:
    path = folder / "manifest.json"
    record = json.loads(path.read_text())
    record["sha256"][name] = sha256_of(folder / name)
    path.write_text(json.dumps(record))
