"""Opens the folder of a bundle and checks it: the catalogue, and the backbones trained on it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contracts import (
    BACKBONES,
    CATALOGUE,
    ENCODER,
    HISTORIES,
    IMAGES,
    ITEM_VECTORS,
    ITEMS,
    MANIFEST,
    POPULARITY,
    USER_VECTORS,
    BackboneManifest,
    BundleError,
    CatalogueManifest,
    Item,
    sha256_of,
)
from models.contracts.captions import captions_by_row
from service.catalogue.file_copies import FileCopies, PrivateCopies
from service.catalogue.images import ItemImages
from service.catalogue.vectors import read_vectors


@dataclass(frozen=True)
class Histories:
    """The stored history of every user, as item rows, oldest first.

    Attributes:
        users: position of each user, by user id.
        user_ids: user id at each position.
        offsets: int64 [users + 1]; the user at position u owns ``item_rows[offsets[u]:offsets[u + 1]]``.
        item_rows: int32 [interactions], user after user.
    """

    users: Mapping[str, int]
    user_ids: Sequence[str]
    offsets: NDArray[np.int64]
    item_rows: NDArray[np.int32]

    def get(self, user_id: str) -> list[int] | None:
        """Returns the user's item rows, oldest first; None for a user that the bundle does not know."""
        position = self.users.get(user_id)
        if position is None:
            return None
        rows: list[int] = self.item_rows[self.offsets[position] : self.offsets[position + 1]].tolist()
        return rows


@dataclass(frozen=True)
class Catalogue:
    """The items, their images and captions, and which users took them.

    Attributes:
        manifest: name, counts and version of the catalogue, with the hashes of its files.
        images: images of the items.
        items: items in the order of their rows.
        rows: row by item id.
        histories: stored history of every user.
        popularity: int64 [items], interactions of each item.
        popular: int64 [items], all rows, most interactions first.
        captions: captions by captioner, each by item row.
    """

    manifest: CatalogueManifest
    images: ItemImages
    items: tuple[Item, ...]
    rows: Mapping[str, int]
    histories: Histories
    popularity: NDArray[np.int64]
    popular: NDArray[np.int64]
    captions: Mapping[str, Mapping[int, str]]

    @property
    def version(self) -> str:
        """A hash of the catalogue's files, captions excepted: they are appended to."""
        return self.manifest.version

    def image(self, row: int) -> bytes | None:
        """Returns the contents of the item's image; None without one that can be read. Blocks."""
        return self.images.read(self.items[row])


@dataclass(frozen=True)
class Backbone:
    """One trained recommender, as its folder on the disk holds it.

    Attributes:
        manifest: family, version, dimensions and training of the model.
        item_vectors: float32 [items, d], in memory that stays as it is.
        encoder: ONNX file of a sequence family, which turns a history into a user vector; None for a graph
            family.
        user_vectors: float32 [users, d] of a graph family; None for a sequence family.
    """

    manifest: BackboneManifest
    item_vectors: NDArray[np.float32]
    encoder: Path | None
    user_vectors: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Bundle:
    """One catalogue and the backbones trained on it, by name."""

    catalogue: Catalogue
    backbones: Mapping[str, Backbone]


def open_bundle(folder: Path, copies: FileCopies | None = None) -> Bundle:
    """Opens a bundle and checks every hash, count and version in it.

    Args:
        folder: folder of the bundle.
        copies: makes the copies of large files; None for copies of this process alone.

    Raises:
        BundleError: a file is missing or damaged, or files do not fit together; the message says what to do.
    """
    if not folder.is_dir():
        raise BundleError(f"there is no bundle at {folder}: make one with `python -m models export`")
    catalogue = open_catalogue(folder / CATALOGUE)
    names = sorted(path.name for path in (folder / BACKBONES).glob("*") if (path / MANIFEST).is_file())
    if not names:
        raise BundleError(f"the bundle {folder} has no backbone: add one with `python -m models export`")
    copies = copies or PrivateCopies()
    backbones = {name: _open_backbone(folder / BACKBONES / name, catalogue, copies) for name in names}
    return Bundle(catalogue, backbones)


def open_catalogue(folder: Path) -> Catalogue:
    """Opens the catalogue part of a bundle.

    Raises:
        BundleError: something is missing or damaged.
    """
    manifest = CatalogueManifest.from_json(_read_manifest(folder))
    # Images are not hashed again: items.jsonl holds their digests, and a start must not read all of them.
    _check_hashes(folder, manifest.sha256, required=(ITEMS, HISTORIES, POPULARITY))
    items = _read_items(folder / ITEMS)
    rows = {item.item_id: row for row, item in enumerate(items)}
    if len(rows) != len(items) or len(items) != manifest.items:
        raise BundleError(
            f"{folder / ITEMS} holds {len(items)} items with {len(rows)} different ids and the manifest "
            f"promises {manifest.items}: make the catalogue again"
        )
    # Without pickle: reading the file cannot run code.
    popularity = np.load(folder / POPULARITY, allow_pickle=False)
    if popularity.shape != (len(items),):
        raise BundleError(f"{folder / POPULARITY} has shape {popularity.shape}, expected ({len(items)},)")
    return Catalogue(
        manifest=manifest,
        images=ItemImages(folder / IMAGES),
        items=items,
        rows=rows,
        histories=_read_histories(folder / HISTORIES, len(items)),
        popularity=popularity,
        popular=np.argsort(-popularity, kind="stable"),  # equal counts stay in the order of their rows
        captions=captions_by_row(folder, rows),
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        record = json.loads(path.read_bytes())
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}; export the bundle again") from error
    except ValueError as error:
        raise BundleError(f"{path} is not JSON: export the bundle again") from error
    if not isinstance(record, dict):
        raise BundleError(f"{path} is not a JSON object: export the bundle again")
    return record


def _check_hashes(folder: Path, sha256: Mapping[str, str], required: tuple[str, ...]) -> None:
    for name in required:
        path = folder / name
        if name not in sha256:
            raise BundleError(f"the manifest in {folder} has no hash for {name}: export it again")
        if not path.is_file():
            raise BundleError(f"{path} is missing: export it again")
        if sha256_of(path) != sha256[name]:
            raise BundleError(
                f"{path} is not the file that was exported (its SHA-256 differs): export it again"
            )


def _read_items(path: Path) -> tuple[Item, ...]:
    items = []
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                items.append(Item.from_json(json.loads(line)))
            except ValueError as error:
                raise BundleError(f"{path} line {number} is not JSON: make the catalogue again") from error
    return tuple(items)


def _read_histories(path: Path, items: int) -> Histories:
    with np.load(path, allow_pickle=False) as arrays:
        users, offsets, item_rows = arrays["user_ids"], arrays["offsets"], arrays["item_rows"]
    # Checked once here, so that a row of a history can index items and vectors without a further check.
    fits = offsets.shape == (len(users) + 1,) and offsets[0] == 0 and offsets[-1] == len(item_rows)
    if not fits or (len(item_rows) and not 0 <= item_rows.min() <= item_rows.max() < items):
        raise BundleError(f"{path} does not fit the items: make the catalogue again")
    user_ids = tuple(map(str, users))
    positions = {user: position for position, user in enumerate(user_ids)}
    return Histories(positions, user_ids, offsets, item_rows)


def _open_backbone(folder: Path, catalogue: Catalogue, copies: FileCopies) -> Backbone:
    manifest = BackboneManifest.from_json(_read_manifest(folder))
    graph = USER_VECTORS in manifest.sha256  # what the family is made of is seen by the files it lists
    if not graph:
        _check_hashes(folder, manifest.sha256, required=(ENCODER,))
    # Row n of the vectors is item n of the catalogue that the backbone was trained on, and of no other.
    if manifest.catalogue_version != catalogue.version:
        raise BundleError(
            f"the backbone {folder.name} was trained on catalogue {manifest.catalogue_version} and this "
            f"bundle has {catalogue.version}: export it again with this catalogue"
        )

    def vectors(name: str, rows: int) -> NDArray[np.float32]:
        if name not in manifest.sha256:
            raise BundleError(f"the manifest in {folder} has no hash for {name}: export it again")
        return read_vectors(folder / name, manifest.sha256[name], rows, manifest.dimension, copies)

    item_vectors = vectors(ITEM_VECTORS, len(catalogue.items))
    if not graph:
        return Backbone(manifest, item_vectors, folder / ENCODER)
    return Backbone(manifest, item_vectors, None, vectors(USER_VECTORS, len(catalogue.histories.users)))
