"""Defines what is in a bundle: names of files, fields of items and manifests (standard library only).

A bundle is a folder: one catalogue and one or more backbones trained on it. ``models`` writes it, ``service``
reads it, and this folder is all that the two share.

    bundle/
      catalogue/
        manifest.json     CatalogueManifest
        items.jsonl       one Item a line; row order = row of the item vectors
        histories.npz     user_ids uint8 [bytes] (UTF-8, an id and a newline for each user; in older bundles
                          text of a fixed width [users]), offsets int64 [users + 1],
                          item_rows int32 [interactions]
        popularity.npy    int64 [items], interaction counts of the training part
        images/           files named by Item.image
        captions/         <captioner>.jsonl, see models.contracts.captions; outside the hashes
      backbones/<name>/
        manifest.json     BackboneManifest
        item_vectors.npy  float32 [items, d]
        encoder.onnx      sequence families: history float32 [1, n, d] (1 <= n <= L, oldest first)
                          -> user_vector float32 [1, d]
        user_vectors.npy  graph families: float32 [users, d], in the order of histories.npz
"""

from __future__ import annotations

from models.contracts.errors import BundleError
from models.contracts.files import sha256_of
from models.contracts.items import Item
from models.contracts.manifests import BackboneManifest, CatalogueManifest
from models.contracts.names import (
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
    SCHEMA_VERSION,
    USER_VECTORS,
    TextView,
)

__all__ = [
    "BACKBONES",
    "CAPTIONS",
    "CATALOGUE",
    "ENCODER",
    "ENCODER_INPUT",
    "ENCODER_OUTPUT",
    "HISTORIES",
    "IMAGES",
    "ITEMS",
    "ITEM_VECTORS",
    "MANIFEST",
    "POPULARITY",
    "SCHEMA_VERSION",
    "USER_VECTORS",
    "BackboneManifest",
    "BundleError",
    "CatalogueManifest",
    "Item",
    "TextView",
    "sha256_of",
]
