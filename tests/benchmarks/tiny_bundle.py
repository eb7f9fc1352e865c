"""Makes a bundle whose replay can be checked by hand."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from models.bundle.catalogue import read_catalogue, write_catalogue
from models.contracts import BackboneManifest, Item, sha256_of
from models.data.dataset import Dataset
from models.evaluation import EvaluationProtocol

ITEMS, USERS = 60, 12
ITEM_IDS = [f"I{row:02}" for row in range(ITEMS)]
SHORT = "u3"
"""A user for whom ``write_data`` writes one negative too few."""


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


def histories_by_id(bundle: Path) -> dict[str, list[str]]:
    """Item ids by user id."""
    dataset = read_catalogue(bundle)
    return {
        user: [dataset.items[row].item_id for row in rows]
        for user, rows in zip(dataset.users, dataset.histories, strict=True)
    }


def write_data(folder: Path, histories: Mapping[str, Sequence[str]], items: Sequence[str]) -> Path:
    """Writes a data set in the Amazon Review Plus layout, items in reverse, 29 negatives for most users."""
    folder.mkdir()
    number = {item: str(at) for at, item in enumerate(reversed(items), 1)}
    users = {user: str(at) for at, user in enumerate(reversed(histories), 1)}
    maps = {
        "id2user": {internal: user for user, internal in users.items()},
        "id2item": {internal: item for item, internal in number.items()},
    }
    (folder / "datamaps.json").write_text(json.dumps(maps))
    (folder / "item2side.json").write_text("{}")
    taken = [" ".join([users[user], *(number[i] for i in rows)]) for user, rows in histories.items()]
    (folder / "sequential.txt").write_text("\n".join(taken) + "\n")
    lines = []
    for user, rows in histories.items():
        negatives = [item for item in items if item not in rows][: 28 if user == SHORT else 29]
        lines.append(" ".join([user, *negatives]))
    (folder / "negative_samples.txt").write_text("\n".join(lines) + "\n")
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
