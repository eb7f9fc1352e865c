"""Writes a ``Dataset`` as the ``catalogue/`` of a bundle, and reads it back."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.atomic import new_folder
from models.bundle.images import copy_images
from models.contracts import (
    CATALOGUE,
    HISTORIES,
    IMAGES,
    ITEMS,
    MANIFEST,
    POPULARITY,
    BundleError,
    CatalogueManifest,
    Item,
    sha256_of,
)
from models.contracts.captions import (
    Caption,
    caption_files,
    caption_path,
    read_captions,
    write_captions,
)
from models.contracts.catalogue_files import HASHED, read_catalogue_files, read_catalogue_items
from models.contracts.ids import id_problem
from models.contracts.items import item_line
from models.contracts.manifests import MAX_NAME, is_dataset_name, read_catalogue_manifest
from models.contracts.names import is_captioner_name
from models.contracts.one_writer import one_writer
from models.data.dataset import Dataset
from models.data.report import ReadingReport
from models.errors import DataError
from models.evaluation import popularity

log = logging.getLogger(__name__)


def write_catalogue(dataset: Dataset, bundle: Path, *, replace_other: bool = False) -> CatalogueManifest:
    """Writes ``bundle/catalogue``, complete or not at all.

    An item whose picture cannot be opened is written without one, and the report counts it. Captions that the
    bundle already has cost money, and are kept where the picture is the same.

    Args:
        dataset: items, histories, pictures and captions to write.
        bundle: folder of the bundle, made if missing.
        replace_other: permission to replace a catalogue with other contents.

    Returns:
        The manifest that was written.

    Raises:
        DataError: the data set contradicts itself.
        BundleError: the bundle holds another catalogue, and ``replace_other`` is false.
        BusyError: captions are being written into the catalogue that is there.
    """
    _check(dataset)  # before anything is written
    target = bundle / CATALOGUE
    with one_writer(target) if target.is_dir() else nullcontext(), new_folder(target) as draft:
        items = copy_images(dataset, draft / IMAGES)
        manifest = _write_files(replace(dataset, items=items), draft)
        captions = _captions_of(dataset)
        if target.exists():  # captions of the old catalogue are read before it is replaced
            if not replace_other:
                _refuse_other(target, manifest)
            _keep_captions(target, items, captions)
        for captioner, by_item in captions.items():
            write_captions(caption_path(draft, captioner), by_item.values())
    return manifest


def as_written(dataset: Dataset) -> Dataset:
    """Returns a data set as ``write_catalogue`` would write it: without pictures that cannot be opened.

    Raises:
        DataError: no bundle can hold it.
    """
    _check(dataset)
    return replace(dataset, items=copy_images(dataset, None))


def read_catalogue(bundle: Path) -> Dataset:
    """Reads ``bundle/catalogue``.

    Raises:
        BundleError: it is missing, of another schema version, or a file is not the one that was written.
    """
    folder = bundle / CATALOGUE
    _require_catalogue(bundle)
    files = read_catalogue_files(folder)
    items = tuple(files.items.values())
    offsets = np.frombuffer(files.histories.offsets, "<i8")
    return Dataset(
        name=files.manifest.dataset,
        items=items,
        users=files.histories.user_ids,
        histories=tuple(np.split(np.frombuffer(files.histories.item_rows, "<i4"), offsets[1:-1])),
        images=folder / IMAGES if any(item.image for item in items) else None,
        captions=files.captions,
        report=ReadingReport.from_json(files.manifest.reading),
    )


def read_manifest(bundle: Path) -> CatalogueManifest:
    """Reads the manifest of ``bundle/catalogue``.

    Raises:
        BundleError: it is missing, damaged or of another schema version.
    """
    _require_catalogue(bundle)
    return read_catalogue_manifest(bundle / CATALOGUE)


def _require_catalogue(bundle: Path) -> None:
    if not os.path.lexists(bundle / CATALOGUE / MANIFEST):
        raise BundleError(f"{bundle} has no catalogue: write one with `python -m models data`")


def _check(dataset: Dataset) -> None:
    if not is_dataset_name(dataset.name):
        raise DataError(
            f"{dataset.name[:40]!a} can be no name of a data set, which has 1 to {MAX_NAME} visible "
            "characters: give it another one with --name"
        )
    for what, ids in (("item", [item.item_id for item in dataset.items]), ("user", list(dataset.users))):
        if not ids:
            raise DataError(f"the data set {dataset.name} has no {what}")
        if len(set(ids)) < len(ids):
            raise DataError(f"the {what} id {Counter(ids).most_common(1)[0][0]!r} is used twice")
        for public_id in ids:
            if (problem := id_problem(public_id)) is not None:
                raise DataError(
                    f"the {what} id {public_id[:80]!r} {problem}, so the service could not name it: give it "
                    "another id"
                )
    for item in dataset.items:
        _line(replace(item, image=None, image_sha256=None))  # its picture gets its name when it is copied
    for captioner in dataset.captions:
        if not is_captioner_name(captioner):
            raise DataError(
                f"the captioner {captioner[:80]!r} names a file: letters, digits, '.', '_' and '-'"
            )
    if len(dataset.users) != len(dataset.histories):
        raise DataError(
            f"{len(dataset.users)} users and {len(dataset.histories)} histories: one each is needed"
        )
    rows = np.concatenate(dataset.histories)
    if rows.size and not (rows.min() >= 0 and rows.max() < len(dataset.items)):
        raise DataError(f"a history holds an item row outside 0–{len(dataset.items) - 1}")


def _write_files(dataset: Dataset, folder: Path) -> CatalogueManifest:
    with (folder / ITEMS).open("wb") as stream:
        stream.writelines(map(_line, dataset.items))
    np.savez(
        folder / HISTORIES,
        # One user with a long id would make every id of an array of texts as long.
        user_ids=np.frombuffer("".join(f"{user}\n" for user in dataset.users).encode(), np.uint8),
        # User u owns item_rows[offsets[u]:offsets[u + 1]].
        offsets=np.cumsum([0, *map(len, dataset.histories)], dtype=np.int64),
        item_rows=np.concatenate(dataset.histories).astype(np.int32),
    )
    np.save(folder / POPULARITY, popularity(dataset.histories, len(dataset.items)))
    manifest = CatalogueManifest(
        dataset=dataset.name,
        items=len(dataset.items),
        users=len(dataset.users),
        interactions=dataset.interactions,
        sha256={name: sha256_of(folder / name) for name in HASHED},
        reading=dataset.report.to_json(),
    )
    text = json.dumps(manifest.to_json(), indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8", newline="\n")
    return manifest


def _line(item: Item) -> bytes:
    try:
        return item_line(item)
    except ValueError as error:
        raise DataError(f"{str(error)[:300]}: no bundle can hold it") from error


def _refuse_other(target: Path, manifest: CatalogueManifest) -> None:
    try:
        found = read_manifest(target.parent)
    except BundleError as error:
        raise BundleError(
            f"{target} is there and cannot be read ({error}): replace it with --replace, or write to another "
            "bundle"
        ) from error
    if found.version != manifest.version:
        raise BundleError(
            f"{target} holds another catalogue ({found.dataset}, version {found.version}), and backbones may "
            "be trained on it: write to another bundle, or replace it with --replace"
        )


def _captions_of(dataset: Dataset) -> dict[str, dict[str, Caption]]:
    """Returns the captions that came with the data, whose provider and prompt are not known."""
    return {
        captioner: {
            dataset.items[row].item_id: Caption(
                item_id=dataset.items[row].item_id,
                provider="dataset",
                model=captioner,
                prompt_version="dataset",
                caption=caption,
            )
            for row, caption in sorted(by_row.items())
        }
        for captioner, by_row in dataset.captions.items()
    }


def _keep_captions(old: Path, items: Sequence[Item], captions: dict[str, dict[str, Caption]]) -> None:
    """Adds the captions of the old catalogue to ``captions``, for items with the same picture as before."""
    files = caption_files(old)
    if not files:
        return
    digest_of = {item.item_id: item.image_sha256 for item in items}
    try:
        before = {item.item_id: item.image_sha256 for item in read_catalogue_items(old).values()}
    except BundleError as error:
        raise BundleError(
            f"{error}. Only its items say which of its captions to keep: move {old} away, and later copy "
            "its folder captions back"
        ) from error
    for captioner, path in files.items():
        by_item = read_captions(path)
        kept = {i: c for i, c in by_item.items() if i in digest_of and digest_of[i] == before.get(i)}
        captions.setdefault(captioner, {}).update(kept)
