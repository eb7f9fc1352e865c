"""Makes a bundle whose replay can be checked by hand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from models.bundle.catalogue import write_catalogue
from models.contracts import BackboneManifest, Item, sha256_of
from models.data.dataset import Dataset
from models.evaluation import EvaluationProtocol

ITEMS, USERS = 60, 12


def write_tiny_bundle(folder: Path) -> Path:
    """60 items, 12 users of whom the last has too short a history for a test, a backbone named toy."""
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
        metrics={"test": {"H@1": 0.5, "H@5": 0.75, "N@5": 0.6, "protocol": EvaluationProtocol().to_json()}},
    )
    hashes = {name: sha256_of(folder / name) for name in ("item_vectors.npy", "encoder.onnx")}
    complete = dataclasses.replace(manifest, sha256=hashes)
    (folder / "manifest.json").write_text(json.dumps(complete.to_json()), encoding="utf-8")
