from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_service import FakeService

from models.catalogue import write_catalogue
from models.contracts import BackboneManifest, Item, sha256_of
from models.data.dataset import Dataset
from service.bundle import Bundle, open_bundle

ITEMS, USERS = 60, 12


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of 60 items and 12 users, the last with too short a history, and a backbone named toy."""
    folder = tmp_path_factory.mktemp("bundle")
    draw = np.random.default_rng(7)
    histories = [draw.choice(ITEMS, size=int(n), replace=False) for n in draw.integers(3, 9, size=USERS - 1)]
    dataset = Dataset(
        name="tiny",
        items=tuple(Item(item_id=f"I{row:02}", title=f"Thing {row}") for row in range(ITEMS)),
        users=tuple(f"u{user}" for user in range(USERS)),
        histories=tuple(rows.astype(np.int32) for rows in [*histories, np.array([1, 2])]),
    )
    manifest = write_catalogue(dataset, folder)
    _write_backbone(folder / "backbones" / "toy", manifest.version)
    return folder


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    return open_bundle(bundle_folder)


@pytest.fixture
def service(bundle: Bundle) -> Iterator[FakeService]:
    with FakeService(bundle).running() as fake:
        yield fake


def _write_backbone(folder: Path, catalogue_version: str) -> None:
    folder.mkdir(parents=True)
    np.save(folder / "item_vectors.npy", np.zeros((ITEMS, 4), dtype=np.float32))
    (folder / "encoder.onnx").write_bytes(b"never loaded here")
    manifest = BackboneManifest(
        name="toy",
        family="sasrec",
        modalities=("id",),
        text_view="raw",
        captioner=None,
        catalogue_version=catalogue_version,
        length=10,
        dimension=4,
        config={},
        seed=0,
        device="cpu",
        epochs=3,
        seconds_per_epoch=1.5,
        metrics={"test": {"H@1": 0.5, "H@5": 0.75, "N@5": 0.6}},
    )
    hashes = {name: sha256_of(folder / name) for name in ("item_vectors.npy", "encoder.onnx")}
    complete = dataclasses.replace(manifest, sha256=hashes)
    (folder / "manifest.json").write_text(json.dumps(complete.to_json()), encoding="utf-8")
