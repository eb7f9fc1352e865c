"""Makes small bundles whose right answers are known by construction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

from models.contracts import (
    BACKBONES,
    CAPTIONS,
    CATALOGUE,
    ENCODER,
    ENCODER_INPUT,
    ENCODER_OUTPUT,
    HISTORIES,
    IMAGES,
    ITEM_VECTORS,
    ITEMS,
    MANIFEST,
    POPULARITY,
    USER_VECTORS,
    BackboneManifest,
    CatalogueManifest,
    Item,
    sha256_of,
)

LENGTH = 10
COLOURS = ("red", "green", "blue", "white")
KINDS = ("mug", "lamp", "vase", "bag")
PIXELS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 200), "white": (245, 245, 245)}


def write_bundle(
    folder: Path,
    items: int = 48,
    users: int = 12,
    enhanced: bool = True,
    prefix: str = "I",
    ids: Sequence[str] = (),
) -> Path:
    """Writes a bundle whose encoder is the mean of the history's item vectors, and returns its folder.

    Item i has colour ``i % 4`` and kind ``i // 4 % 4``; its vector is the one-hot pair of both plus a tiny
    term that falls with i. So a history of red mugs scores red mugs first, in row order. Item ids begin with
    ``prefix``, but for the first items, which have ``ids``.
    """
    catalogue = folder / CATALOGUE
    (catalogue / IMAGES).mkdir(parents=True)
    (catalogue / CAPTIONS).mkdir()
    made = [_item(catalogue, row, prefix) for row in range(items)]
    made[: len(ids)] = [replace(item, item_id=item_id) for item, item_id in zip(made, ids, strict=False)]
    with (catalogue / ITEMS).open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(item.to_json()) + "\n" for item in made)
    histories = [[(user * 5 + step * 4) % items for step in range(3 + user % 3)] for user in range(users)]
    np.savez(
        catalogue / HISTORIES,
        user_ids=np.array([f"u{user}" for user in range(users)]),
        offsets=np.cumsum([0, *map(len, histories)]).astype(np.int64),
        item_rows=np.concatenate([np.array(rows, dtype=np.int32) for rows in histories]),
    )
    counts = np.bincount(np.concatenate(histories), minlength=items)
    np.save(catalogue / POPULARITY, counts.astype(np.int64))
    captions = [
        {"item_id": item.item_id, "provider": "simulator", "model": "m", "prompt_version": "1",
         "caption": f"A {COLOURS[row % 4]} {KINDS[row // 4 % 4]}."}
        for row, item in enumerate(made[: items // 2])
    ]  # fmt: skip
    (catalogue / CAPTIONS / "simulator.jsonl").write_text("".join(json.dumps(c) + "\n" for c in captions))
    manifest = CatalogueManifest(
        dataset="blocks",
        items=items,
        users=users,
        interactions=sum(map(len, histories)),
        sha256={name: sha256_of(catalogue / name) for name in (ITEMS, HISTORIES, POPULARITY)},
    )
    (catalogue / MANIFEST).write_text(json.dumps(manifest.to_json()))
    write_backbone(folder, "blocks-raw", manifest.version, items)
    if enhanced:
        write_backbone(
            folder, "blocks-enhanced", manifest.version, items, text_view="enhanced", captioner="simulator"
        )
    return folder


def write_backbone(folder: Path, name: str, catalogue_version: str, items: int, **changes: Any) -> Path:
    """Adds a backbone to a bundle, and returns its folder."""
    backbone = folder / BACKBONES / name
    backbone.mkdir(parents=True)
    vectors = np.zeros((items, 9), dtype=np.float32)
    rows = np.arange(items)
    vectors[rows, rows % 4] = 1.0
    vectors[rows, 4 + rows // 4 % 4] = 1.0
    vectors[rows, 8] = 0.1 * (1 - rows / items)
    np.save(backbone / ITEM_VECTORS, vectors)
    onnx.save(mean_encoder(vectors.shape[1]), str(backbone / ENCODER))
    fields: dict[str, Any] = {
        "name": name,
        "family": "morec",
        "modalities": ("text",),
        "text_view": "raw",
        "captioner": None,
        "catalogue_version": catalogue_version,
        "length": LENGTH,
        "dimension": vectors.shape[1],
        "config": {},
        "seed": 0,
        "device": "cpu",
        "epochs": 1,
        "seconds_per_epoch": 0.5,
        "metrics": {"validation": {"N@5": 0.5}, "test": {"N@5": 0.5}},
        "sha256": {file: sha256_of(backbone / file) for file in (ITEM_VECTORS, ENCODER)},
    }
    manifest = BackboneManifest(**{**fields, **changes})
    (backbone / MANIFEST).write_text(json.dumps(manifest.to_json()))
    return backbone


def write_graph_backbone(folder: Path, name: str, catalogue_version: str, items: int, users: int) -> Path:
    """Adds a backbone with user vectors to a bundle: user u wants the colour ``u % 4`` and nothing else."""
    backbone = write_backbone(folder, name, catalogue_version, items)
    (backbone / ENCODER).unlink()
    vectors = np.zeros((users, 9), dtype=np.float32)
    vectors[np.arange(users), np.arange(users) % 4] = 1.0
    vectors[:, 8] = 0.1  # equal items in row order
    np.save(backbone / USER_VECTORS, vectors)
    record = json.loads((backbone / MANIFEST).read_text())
    hashes = {file: sha256_of(backbone / file) for file in (ITEM_VECTORS, USER_VECTORS)}
    record |= {"family": "graph", "length": 0, "sha256": hashes}
    (backbone / MANIFEST).write_text(json.dumps(record))
    return backbone


def mean_encoder(dimension: int) -> onnx.ModelProto:
    """Returns an encoder as bundles hold it: [1, n, d] -> [1, d], the mean of the history's item vectors."""
    node = helper.make_node("ReduceMean", [ENCODER_INPUT, "axes"], [ENCODER_OUTPUT], keepdims=0)
    graph = helper.make_graph(
        [node],
        "mean",
        [helper.make_tensor_value_info(ENCODER_INPUT, TensorProto.FLOAT, [1, "n", dimension])],
        [helper.make_tensor_value_info(ENCODER_OUTPUT, TensorProto.FLOAT, [1, dimension])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    return model


def _item(catalogue: Path, row: int, prefix: str) -> Item:
    """One item of the catalogue; every sixth has no picture and every seventh no title, as in real data."""
    colour, kind = COLOURS[row % 4], KINDS[row // 4 % 4]
    item_id = f"{prefix}{row:03d}"
    image = digest = None
    if row % 6 != 5:
        image = f"{item_id}.png"
        picture = Image.new("RGB", (64, 48), PIXELS[colour])
        picture.putpixel((0, 0), (row, row, row))  # no two are the same file
        picture.save(catalogue / IMAGES / image)
        digest = sha256_of(catalogue / IMAGES / image)
    return Item(
        item_id=item_id,
        title=None if row % 7 == 6 else f"{colour.title()} {kind} number {row}",
        categories=("Home", kind.title() + "s"),
        keywords=f"{colour} {kind}" if row % 7 == 6 else None,
        image=image,
        image_sha256=digest,
    )
