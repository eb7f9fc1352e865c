"""Defines what is in a bundle: names of files, fields of items and manifests (standard library only).

A bundle is a folder: one catalogue and one or more backbones trained on it. ``models`` writes it, ``service``
reads it, and this module is all that the two share.

    bundle/
      catalogue/
        manifest.json     CatalogueManifest
        items.jsonl       one Item a line; row order = row of the item vectors
        histories.npz     user_ids str [users], offsets int64 [users + 1], item_rows int32 [interactions]
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

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

SCHEMA_VERSION = 1
"""Version of the bundle format that this code writes; a bundle of another version is refused."""

# Names of folders and files; the docstring above has the tree.
CATALOGUE = "catalogue"
BACKBONES = "backbones"
MANIFEST = "manifest.json"
ITEMS = "items.jsonl"
HISTORIES = "histories.npz"
POPULARITY = "popularity.npy"
IMAGES = "images"
CAPTIONS = "captions"
ITEM_VECTORS = "item_vectors.npy"
ENCODER = "encoder.onnx"
USER_VECTORS = "user_vectors.npy"
# Names of the ONNX graph's input and output.
ENCODER_INPUT = "history"
ENCODER_OUTPUT = "user_vector"

TextView = Literal["raw", "enhanced"]


class BundleError(Exception):
    """A bundle, or a part of one, is missing, damaged or of another version; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Item:
    """One product of the catalogue.

    Attributes:
        item_id: public id (an ASIN on Amazon data).
        title: title with HTML entities decoded; None where the data have none.
        categories: categories from general to specific.
        keywords: words that a program has made, for data sets without titles; None without any.
        image: file name below ``catalogue/images``; None without a picture.
        image_sha256: hexadecimal SHA-256 of that file, which cache keys hold; None without a picture.
    """

    item_id: str
    title: str | None = None
    categories: tuple[str, ...] = ()
    keywords: str | None = None
    image: str | None = None
    image_sha256: str | None = None

    @property
    def name(self) -> str:
        """Name of the item in texts: its title, else its keywords, else its categories, else its id."""
        return self.title or self.keywords or ", ".join(self.categories) or self.item_id

    def to_json(self) -> dict[str, Any]:
        """Returns the item's line of ``items.jsonl`` as JSON, empty fields left out."""
        return {key: value for key, value in asdict(self).items() if value not in (None, (), "")}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Item:
        """Makes an item of the JSON of a line of ``items.jsonl``.

        Raises:
            BundleError: a field is missing or has another type.
        """
        item_id = record.get("item_id")
        if not isinstance(item_id, str) or not item_id:
            raise BundleError(f"an item without an item_id: {str(dict(record))[:200]}")
        texts = {key: record.get(key) for key in ("title", "keywords", "image", "image_sha256")}
        for key, value in texts.items():
            if value is not None and not isinstance(value, str):
                raise BundleError(f"item {item_id}: {key} must be a string")
        categories = record.get("categories", ())
        if not isinstance(categories, (list, tuple)) or not all(isinstance(c, str) for c in categories):
            raise BundleError(f"item {item_id}: categories must be a list of strings")
        return cls(item_id=item_id, categories=tuple(categories), **texts)


@dataclass(frozen=True)
class CatalogueManifest:
    """Counts of a catalogue and the SHA-256 of its files, captions excepted.

    ``items.jsonl`` holds the digest of every image, so its hash covers the images too.

    Attributes:
        dataset: name of the data set.
        items: number of items.
        users: number of users.
        interactions: number of pairs of user and item in the complete histories.
        sha256: hexadecimal SHA-256 by file name.
        schema_version: version of the bundle format.
        reading: what the reader of the data left out or changed, with counts and places; empty if unknown.
    """

    dataset: str
    items: int
    users: int
    interactions: int
    sha256: dict[str, str]
    schema_version: int = SCHEMA_VERSION
    reading: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def version(self) -> str:
        """Twelve hex digits that change with the contents."""
        return _digest(self.sha256)

    def to_json(self) -> dict[str, Any]:
        """Returns the JSON of ``manifest.json``."""
        return {**asdict(self), "version": self.version}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> CatalogueManifest:
        """Makes a manifest of the JSON of ``manifest.json``.

        Raises:
            BundleError: the schema version is another one, or a field is missing.
        """
        manifest: CatalogueManifest = _manifest(cls, record, "the catalogue")
        return manifest


@dataclass(frozen=True)
class BackboneManifest:
    """One trained sequential recommender and everything needed to quote it.

    Attributes:
        name: name of the backbone, and of its folder.
        family: name of the model family, lower case (``sasrec``, ``morec``, …).
        modalities: parts of an item that the model reads: any of ``id``, ``text``, ``image``.
        text_view: text that the model reads: ``raw`` (title) or ``enhanced`` (title and caption, the paper's
            S2).
        captioner: captioner whose captions an enhanced backbone was trained on; None for a raw one.
        catalogue_version: version of the catalogue that it was trained on.
        length: L, the number of last items that the encoder reads; 0 for a graph family, which has none.
        dimension: d, the length of item and user vectors.
        config: configuration of the training run.
        seed: seed of everything random in the training.
        device: device that it was trained on, in words.
        epochs: number of epochs that were trained.
        seconds_per_epoch: mean wall-clock time of an epoch in seconds, without validation.
        metrics: metrics of the parts ``validation`` and ``test``, with the protocol beside the numbers.
        sha256: hexadecimal SHA-256 by file name.
        schema_version: version of the bundle format.
    """

    name: str
    family: str
    modalities: tuple[str, ...]
    text_view: TextView
    captioner: str | None
    catalogue_version: str
    length: int
    dimension: int
    config: dict[str, Any]
    seed: int
    device: str
    epochs: int
    seconds_per_epoch: float
    metrics: dict[str, Any]
    sha256: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @cached_property
    def version(self) -> str:
        """Twelve hex digits that change with the contents."""
        return _digest(self.sha256)

    def to_json(self) -> dict[str, Any]:
        """Returns the JSON of ``manifest.json``."""
        return {**asdict(self), "version": self.version}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> BackboneManifest:
        """Makes a manifest of the JSON of ``manifest.json``.

        Raises:
            BundleError: the schema version is another one, or a field is missing.
        """
        manifest: BackboneManifest = _manifest(cls, record, "the backbone")
        if manifest.text_view not in ("raw", "enhanced"):
            raise BundleError(
                f"the backbone {manifest.name}: text_view is raw or enhanced, not {manifest.text_view!r}"
            )
        return manifest


def sha256_of(path: Path) -> str:
    """Computes the hexadecimal SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(sha256: Mapping[str, str]) -> str:
    """Hashes the hashes of all files to the twelve hexadecimal digits of a version."""
    return hashlib.sha256(json.dumps(sha256, sort_keys=True).encode()).hexdigest()[:12]


def _manifest(cls: type[Any], record: Mapping[str, Any], what: str) -> Any:
    found = record.get("schema_version")
    if found != SCHEMA_VERSION:
        raise BundleError(
            f"{what} has schema version {found!r} and this code reads {SCHEMA_VERSION}: "
            "export it again with this version of msr-serve"
        )
    # Fields that this version does not know are ignored, but none may be missing, save the newest.
    names = {f.name for f in fields(cls)}
    missing = sorted(names - record.keys() - {"reading"})
    if missing:
        raise BundleError(f"{what}'s manifest lacks {', '.join(missing)}: export it again")
    values = {key: value for key, value in record.items() if key in names}  # "version" is computed
    if "modalities" in values:
        values["modalities"] = tuple(values["modalities"])  # JSON has lists alone
    return cls(**values)
