"""Defines the two manifests of a bundle, and checks every field of them (standard library only)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from models.contracts.errors import BundleError, quoted
from models.contracts.files import read_regular
from models.contracts.json_objects import parse_strictly
from models.contracts.names import (
    MANIFEST,
    SCHEMA_VERSION,
    TextView,
    is_backbone_name,
    is_captioner_name,
    is_file_name,
    is_sha256,
)

MAX_MANIFEST = 2**20
"""Bytes of a manifest at most; those that are written have a few thousand."""

MAX_ITEMS = 50_000_000
MAX_USERS = 1_000_000_000
MAX_INTERACTIONS = 2**40
MAX_LENGTH = 2_048
MAX_DIMENSION = 8_192
"""Largest counts, L and d of a bundle that is opened: far above those of any data set or model that is known,
and small enough to compute with."""

_Manifest = TypeVar("_Manifest")

MAX_NAME = 200
"""Characters of a name that is text: a data set, a device."""


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
            BundleError: the schema version is another one, or a field is missing or not as it must be.
        """
        values = _checked(record, CATALOGUE_FIELDS, optional="reading")
        if not isinstance(values.get("reading"), dict):  # says how the data were read; nothing depends on it
            values["reading"] = {}
        return cls(**values)


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
            BundleError: the schema version is another one, or a field is missing or not as it must be.
        """
        values = _checked(record, BACKBONE_FIELDS)
        return cls(**{**values, "modalities": tuple(values["modalities"])})  # JSON has lists alone


def read_catalogue_manifest(folder: Path) -> CatalogueManifest:
    """Reads the manifest in the folder of a catalogue.

    Raises:
        BundleError: it is missing, damaged, of another schema version, or a field is not as it must be.
    """
    return _read(folder, CatalogueManifest.from_json)


def read_backbone_manifest(folder: Path) -> BackboneManifest:
    """Reads the manifest in the folder of a backbone.

    Raises:
        BundleError: it is missing, damaged, of another schema version, a field is not as it must be, or the
            folder has another name than the backbone.
    """
    manifest = _read(folder, BackboneManifest.from_json)
    if manifest.name != folder.name:
        raise BundleError(
            f"{folder / MANIFEST}: name is {manifest.name!r} and that of the folder {folder.name!r}: name "
            "the folder as its backbone, or export it again with --name"
        )
    return manifest


def _read(folder: Path, from_json: Callable[[Mapping[str, Any]], _Manifest]) -> _Manifest:
    path = folder / MANIFEST
    content = read_regular(path, MAX_MANIFEST)
    try:
        record = parse_strictly(content)
    except ValueError as error:
        raise BundleError(f"{path}: {error}: export it again") from error
    try:
        return from_json(record)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error


def _digest(sha256: Mapping[str, str]) -> str:
    """Hashes the hashes of all files to the twelve hexadecimal digits of a version."""
    return hashlib.sha256(json.dumps(sha256, sort_keys=True).encode()).hexdigest()[:12]


# What must be true of a field, and the same in words.
_Field = tuple[Callable[[Any], bool], str]


def _integer(least: int, most: int) -> _Field:
    # The type itself: a bool is an int too.
    return (
        lambda value: type(value) is int and least <= value <= most,
        f"a whole number from {least} to {most}",
    )


def is_dataset_name(value: object) -> bool:
    """Whether a data set can have this name: it stands in tables and pages."""
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


_NAME: _Field = is_dataset_name, f"a text of 1 to {MAX_NAME} visible characters"
_OBJECT: _Field = lambda value: isinstance(value, dict), "an object"
_HASHES: _Field = (
    lambda value: (
        isinstance(value, dict)
        and all(is_file_name(k) and isinstance(v, str) and is_sha256(v) for k, v in value.items())
    ),
    "an object of 64 lower-case hexadecimal digits by file name",
)

CATALOGUE_FIELDS: Mapping[str, _Field] = {
    "dataset": _NAME,
    "items": _integer(1, MAX_ITEMS),
    "users": _integer(1, MAX_USERS),
    "interactions": _integer(0, MAX_INTERACTIONS),
    "sha256": _HASHES,
}
BACKBONE_FIELDS: Mapping[str, _Field] = {
    "name": (
        lambda value: isinstance(value, str) and is_backbone_name(value),
        "1 to 64 of a-z, 0-9, dot, dash and underscore",
    ),
    "family": (
        lambda value: isinstance(value, str) and is_backbone_name(value),
        "1 to 64 of a-z, 0-9, dot, dash and underscore",
    ),
    "modalities": (
        lambda value: (
            isinstance(value, list | tuple)
            and all(each in ("id", "text", "image") for each in value)
            and len(set(value)) == len(value)
        ),
        "a list of id, text and image, each once at most",
    ),
    "text_view": (lambda value: value in ("raw", "enhanced"), "raw or enhanced"),
    "captioner": (
        lambda value: value is None or (isinstance(value, str) and is_captioner_name(value)),
        "null, or letters, digits, dots, dashes and underscores",
    ),
    "catalogue_version": _NAME,
    "length": _integer(0, MAX_LENGTH),
    "dimension": _integer(1, MAX_DIMENSION),
    "config": _OBJECT,
    "seed": _integer(-(2**63), 2**63 - 1),
    "device": _NAME,
    "epochs": _integer(0, 2**31),
    "seconds_per_epoch": (
        lambda value: type(value) in (int, float) and 0 <= value < float("inf"),
        "a number, at least 0",
    ),
    "metrics": _OBJECT,
    "sha256": _HASHES,
}


def _checked(record: Mapping[str, Any], rules: Mapping[str, _Field], optional: str = "") -> dict[str, Any]:
    """Returns the known fields of a manifest; those that this version does not know are ignored."""
    found = record.get("schema_version")
    if type(found) is not int or found != SCHEMA_VERSION:
        raise BundleError(
            f"it has schema version {found!r:.40} and this code reads {SCHEMA_VERSION}: "
            "export it again with this version of msr-serve"
        )
    if missing := sorted(rules.keys() - record.keys()):
        raise BundleError(f"it lacks {', '.join(missing)}: export it again")
    for name, (holds, words) in rules.items():
        if not holds(record[name]):
            raise BundleError(f"{name} must be {words}, not {quoted(record[name])}: export it again")
    return {name: record[name] for name in (*rules, optional) if name in record} | {"schema_version": found}
