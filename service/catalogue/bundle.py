"""Opens the folder of a bundle and checks it: the catalogue, and the backbones trained on it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.contracts import (
    BACKBONES,
    CATALOGUE,
    ENCODER,
    IMAGES,
    ITEM_VECTORS,
    MANIFEST,
    USER_VECTORS,
    BackboneManifest,
    BundleError,
    CatalogueManifest,
    Item,
)
from models.contracts.arrays import MAX_HEADER, check_header
from models.contracts.catalogue_files import read_catalogue_files
from models.contracts.files import open_hashed, read_hashed
from models.contracts.manifests import read_backbone_manifest
from service.catalogue.finite import check_finite

log = logging.getLogger(__name__)

MAX_ENCODER = 2**30
"""Bytes of an encoder at most; half of what the format could have."""


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
        folder: folder of the catalogue, with the images in it.
        items: items in the order of their rows.
        rows: row by item id.
        histories: stored history of every user.
        popularity: int64 [items], interactions of each item.
        popular: int64 [items], all rows, most interactions first.
        captions: captions by captioner, each by item row.
    """

    manifest: CatalogueManifest
    folder: Path
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

    def image_path(self, row: int) -> Path | None:
        """Returns the file of the item's image; None for an item without one."""
        image = self.items[row].image
        return self.folder / IMAGES / image if image else None


@dataclass(frozen=True)
class Backbone:
    """One trained recommender, as its folder on the disk holds it.

    Attributes:
        manifest: family, version, dimensions and training of the model.
        item_vectors: float32 [items, d], memory-mapped: worker processes share one copy.
        encoder: contents of the ONNX file of a sequence family, which turns a history into a user vector;
            None for a graph family.
        user_vectors: float32 [users, d] of a graph family, memory-mapped too; None for a sequence family.
    """

    manifest: BackboneManifest
    item_vectors: NDArray[np.float32]
    encoder: bytes | None
    user_vectors: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Bundle:
    """One catalogue and the backbones trained on it, by name."""

    catalogue: Catalogue
    backbones: Mapping[str, Backbone]


def open_bundle(folder: Path) -> Bundle:
    """Opens a bundle and checks every hash, count and version in it.

    Raises:
        BundleError: a file is missing or damaged, or files do not fit together; the message says what to do.
    """
    if not folder.is_dir():
        raise BundleError(f"there is no bundle at {folder}: make one with `python -m models export`")
    catalogue = open_catalogue(folder / CATALOGUE)
    backbones = _backbone_folders(folder / BACKBONES)
    if not backbones:
        raise BundleError(f"the bundle {folder} has no backbone: add one with `python -m models export`")
    return Bundle(catalogue, {each.name: _open_backbone(each, catalogue) for each in backbones})


def open_catalogue(folder: Path) -> Catalogue:
    """Opens the catalogue part of a bundle.

    Raises:
        BundleError: something is missing or damaged.
    """
    files = read_catalogue_files(folder)
    users = files.histories.user_ids
    popularity = np.frombuffer(files.popularity, "<i8")
    return Catalogue(
        manifest=files.manifest,
        folder=folder,
        items=tuple(files.items.values()),
        rows={item_id: row for row, item_id in enumerate(files.items)},
        histories=Histories(
            users={user: position for position, user in enumerate(users)},
            user_ids=users,
            offsets=np.frombuffer(files.histories.offsets, "<i8"),
            item_rows=np.frombuffer(files.histories.item_rows, "<i4"),
        ),
        popularity=popularity,
        popular=np.argsort(-popularity, kind="stable"),  # equal counts stay in the order of their rows
        captions=files.captions,
    )


def _backbone_folders(folder: Path) -> list[Path]:
    """Lists the folders with a manifest; another entry is no backbone yet, and the log says so.

    Hidden folders are left out without a word: an export under way writes into one.
    """
    entries = sorted(path for path in folder.glob("*") if not path.name.startswith("."))
    found = [path for path in entries if os.path.lexists(path / MANIFEST)]
    for path in entries:
        if path not in found:
            log.warning("left out %r, which has no %s: the export may be unfinished", str(path), MANIFEST)
    return found


def _open_backbone(folder: Path, catalogue: Catalogue) -> Backbone:
    manifest = read_backbone_manifest(folder)
    graph = USER_VECTORS in manifest.sha256  # what the family is made of is seen by the files it lists
    for name in (ITEM_VECTORS, USER_VECTORS if graph else ENCODER):
        if name not in manifest.sha256:
            raise BundleError(f"{folder / MANIFEST} has no hash for {name}: export it again")
    if not graph and not manifest.length:
        raise BundleError(
            f"{folder / MANIFEST}: length is 0, and an encoder reads 1 item at least: export it again"
        )
    # Row n of the vectors is item n of the catalogue that the backbone was trained on, and of no other.
    if manifest.catalogue_version != catalogue.version:
        raise BundleError(
            f"the backbone {folder.name} was trained on catalogue {manifest.catalogue_version} and this "
            f"bundle has {catalogue.version}: export it again with this catalogue"
        )
    items, dimension = len(catalogue.items), manifest.dimension
    item_vectors = _read_vectors(folder / ITEM_VECTORS, manifest.sha256[ITEM_VECTORS], items, dimension)
    if not graph:
        encoder = read_hashed(folder / ENCODER, manifest.sha256[ENCODER], MAX_ENCODER)
        return Backbone(manifest, item_vectors, encoder)
    users = len(catalogue.histories.users)
    user_vectors = _read_vectors(folder / USER_VECTORS, manifest.sha256[USER_VECTORS], users, dimension)
    return Backbone(manifest, item_vectors, None, user_vectors)


def _read_vectors(path: Path, sha256: str, rows: int, dimension: int) -> NDArray[np.float32]:
    limit = MAX_HEADER + rows * dimension * 4
    with open_hashed(path, sha256, limit) as stream:
        start, size = stream.read(MAX_HEADER), os.fstat(stream.fileno()).st_size
    try:
        header = check_header(start, size, "<f4", (rows, dimension))
    except ValueError as error:
        raise BundleError(f"{path}: {error}: export it again") from error
    vectors: NDArray[np.float32] = np.memmap(path, np.float32, "r", header.offset, (rows, dimension))
    check_finite(path, vectors)
    return vectors
