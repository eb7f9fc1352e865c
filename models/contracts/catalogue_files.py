"""Reads and checks a bundle's catalogue, for training and serving alike (standard library only)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.contracts.arrays import MAX_HEADER, StoredArray, parse_array, parse_header, read_members
from models.contracts.captions import captions_by_row
from models.contracts.errors import BundleError
from models.contracts.files import open_hashed, read_hashed
from models.contracts.ids import MAX_ID_CHARACTERS, id_problem
from models.contracts.items import MAX_LINE, Item, read_items
from models.contracts.manifests import CatalogueManifest, read_catalogue_manifest
from models.contracts.names import HISTORIES, ITEMS, MANIFEST, POPULARITY

HASHED = (ITEMS, HISTORIES, POPULARITY)
"""Files whose hashes are in the manifest and make the version; captions, which are added later, are not."""

MAX_ID_BYTES = 4 * MAX_ID_CHARACTERS + 1  # in UTF-8, with the end of the line


@dataclass(frozen=True)
class StoredHistories:
    """Contents of ``histories.npz``, checked: every offset and row can be used without a further check.

    Attributes:
        user_ids: user id at each position, no two the same.
        offsets: bytes of int64 [users + 1], little-endian; the user at position u owns the rows from
            ``offsets[u]`` up to ``offsets[u + 1]``.
        item_rows: bytes of int32 [interactions], little-endian, each a row of the items.
    """

    user_ids: tuple[str, ...]
    offsets: memoryview
    item_rows: memoryview


@dataclass(frozen=True)
class CatalogueFiles:
    """Contents of a catalogue's files, checked one by one and against each other.

    Attributes:
        manifest: counts and hashes.
        items: item by item id, in the order of the rows.
        histories: stored history of every user.
        popularity: bytes of int64 [items], little-endian, none negative.
        captions: captions by captioner, each by item row.
    """

    manifest: CatalogueManifest
    items: Mapping[str, Item]
    histories: StoredHistories
    popularity: memoryview
    captions: Mapping[str, Mapping[int, str]]


def read_catalogue_files(folder: Path) -> CatalogueFiles:
    """Reads the folder ``catalogue`` of a bundle.

    Raises:
        BundleError: a file is missing, damaged or does not fit the others; the message says what to do.
    """
    manifest = read_catalogue_manifest(folder)
    for name in HASHED:
        if name not in manifest.sha256:
            raise BundleError(f"{folder / MANIFEST} has no hash for {name}: make the catalogue again")
    items = _read_items(folder / ITEMS, manifest)
    return CatalogueFiles(
        manifest=manifest,
        items=items,
        histories=_read_histories(folder / HISTORIES, manifest),
        popularity=_read_popularity(folder / POPULARITY, manifest),
        captions=captions_by_row(folder, {item_id: row for row, item_id in enumerate(items)}),
    )


def read_catalogue_items(folder: Path) -> Mapping[str, Item]:
    """Reads the items of a catalogue alone: item by item id, in the order of the rows.

    Raises:
        BundleError: the manifest or the items are missing or damaged.
    """
    return _read_items(folder / ITEMS, read_catalogue_manifest(folder))


def _read_items(path: Path, manifest: CatalogueManifest) -> Mapping[str, Item]:
    # Read twice: a catalogue of millions of items has a gigabyte of texts.
    with open_hashed(path, manifest.sha256[ITEMS], manifest.items * MAX_LINE) as stream:
        items = read_items(stream, path)
    if len(items) != manifest.items:
        raise BundleError(
            f"{path} holds {len(items)} items and the manifest promises {manifest.items}: "
            "make the catalogue again"
        )
    return items


def _read_histories(path: Path, manifest: CatalogueManifest) -> StoredHistories:
    users, interactions = manifest.users, manifest.interactions
    limits = {
        "user_ids": MAX_HEADER + users * MAX_ID_BYTES,
        "offsets": MAX_HEADER + (users + 1) * 8,
        "item_rows": MAX_HEADER + interactions * 4,
    }
    content = read_hashed(path, manifest.sha256[HISTORIES], sum(limits.values()) + MAX_HEADER)
    members = read_members(content, path, limits)
    try:
        user_ids = _user_ids(members["user_ids"], users)
        offsets = parse_array(members["offsets"], "<i8", (users + 1,)).content
        item_rows = parse_array(members["item_rows"], "<i4", (interactions,)).content
        _check_offsets(_numbers(offsets, "q"), interactions)
        rows = _numbers(item_rows, "i")
        if interactions and not 0 <= min(rows) <= max(rows) < manifest.items:
            raise ValueError(f"a history holds an item row outside 0–{manifest.items - 1}")
    except ValueError as error:
        raise BundleError(f"{path} does not fit the catalogue: {error}: make the catalogue again") from error
    return StoredHistories(user_ids, offsets, item_rows)


def _user_ids(content: bytearray, users: int) -> tuple[str, ...]:
    if parse_header(content).dtype.startswith("<U"):  # the form of before: all as wide as the longest
        user_ids = _of_one_width(parse_array(content, "<U", (users,)))
    else:
        text = str(parse_array(content, "|u1", (-1,)).content, "utf-8")
        user_ids = tuple(text.split("\n")[:-1])
        if text[-1:] not in ("", "\n") or len(user_ids) != users:
            raise ValueError(f"it holds {len(user_ids)} user ids and the manifest promises {users}")
    for user_id in user_ids:
        if (problem := id_problem(user_id)) is not None:
            raise ValueError(f"the user id {user_id[:80]!r} {problem}")
    if len(set(user_ids)) != users:
        raise ValueError("a user id is there twice")
    return user_ids


def _of_one_width(stored: StoredArray) -> tuple[str, ...]:
    width = stored.header.width // 4
    if width > MAX_ID_CHARACTERS:
        raise ValueError(f"its user ids have up to {width} characters, more than {MAX_ID_CHARACTERS}")
    text = str(stored.content, "utf-32-le")
    return tuple(text[at : at + width].rstrip("\0") for at in range(0, len(text), max(1, width)))


def _check_offsets(offsets: memoryview, interactions: int) -> None:
    before = 0
    if offsets[0] != 0 or offsets[-1] != interactions:
        raise ValueError(f"its offsets must begin with 0 and end with {interactions}")
    for offset in offsets:
        if offset < before:
            raise ValueError("its offsets go backwards")
        before = offset


def _read_popularity(path: Path, manifest: CatalogueManifest) -> memoryview:
    content = read_hashed(path, manifest.sha256[POPULARITY], MAX_HEADER + manifest.items * 8)
    try:
        counts = parse_array(content, "<i8", (manifest.items,)).content
        if min(_numbers(counts, "q")) < 0:
            raise ValueError("a count is negative")
    except ValueError as error:
        raise BundleError(f"{path} does not fit the items: {error}: make the catalogue again") from error
    return counts


def _numbers(content: memoryview, code: Literal["i", "q"]) -> memoryview:
    """Returns little-endian integers as numbers."""
    if sys.byteorder != "little":
        raise ValueError("this machine's numbers begin with their highest byte, which is not supported")
    return content.cast(code)
