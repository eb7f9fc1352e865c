"""Tests that a bundle is either opened whole or refused with a sentence that says what to do."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from bundles import write_bundle, write_graph_backbone

from models.contracts import BundleError
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


def test_a_complete_caption_line_that_is_broken_is_named(damaged: Path) -> None:
    path = damaged / "catalogue" / "captions" / "simulator.jsonl"
    path.write_text('{"item_id": "I001"}\n' + path.read_text())
    with pytest.raises(BundleError, match="line 1 is not a caption"):
        open_bundle(damaged)
