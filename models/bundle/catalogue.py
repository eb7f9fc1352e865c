"""Writes a ``Dataset`` as the ``catalogue/`` of a bundle, and reads it back."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
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
    captions_by_row,
    read_captions,
    write_captions,
)
from models.contracts.ids import id_problem
from models.data.dataset import Dataset, Rows
from models.data.report import ReadingReport
from models.errors import DataError
from models.evaluation import popularity

log = logging.getLogger(__name__)

HASHED = (ITEMS, HISTORIES, POPULARITY)
"""Files whose hashes are in the manifest and make the version; captions, which are added later, are not."""


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
    """
    _check(dataset)  # before anything is written
    target = bundle / CATALOGUE
    with new_folder(target) as draft:
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


def read_catalogue(bundle: Path) -> Dataset:
    """Reads ``bundle/catalogue``.

    Raises:
        BundleError: it is missing, of another schema version, or a file is not the one that was written.
    """
    folder = bundle / CATALOGUE
    manifest = read_manifest(bundle)
    for name, digest in manifest.sha256.items():
        if not (folder / name).is_file() or sha256_of(folder / name) != digest:
            raise BundleError(
                f"{folder / name} is missing or was changed after it was written: write the catalogue again"
            )
    items = _read_items(folder / ITEMS)
    users, histories = _read_histories(folder / HISTORIES)
    return Dataset(
        name=manifest.dataset,
        items=items,
        users=users,
        histories=histories,
        images=folder / IMAGES if any(item.image for item in items) else None,
        captions=captions_by_row(folder, {item.item_id: row for row, item in enumerate(items)}),
        report=ReadingReport.from_json(manifest.reading),
    )


def read_manifest(bundle: Path) -> CatalogueManifest:
    """Reads the manifest of ``bundle/catalogue``.

    Raises:
        BundleError: it is missing, damaged or of another schema version.
    """
    path = bundle / CATALOGUE / MANIFEST
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{bundle} has no catalogue: write one with `python -m models data`") from None
    except ValueError as error:
        raise BundleError(f"{path} is not JSON ({error}): write the catalogue again") from error
    if not isinstance(record, dict):
        raise BundleError(f"{path} must hold a JSON object: write the catalogue again")
    return CatalogueManifest.from_json(record)


def _check(dataset: Dataset) -> None:
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
    if len(dataset.users) != len(dataset.histories):
        raise DataError(
            f"{len(dataset.users)} users and {len(dataset.histories)} histories: one each is needed"
        )
    rows = np.concatenate(dataset.histories)
    if rows.size and not (rows.min() >= 0 and rows.max() < len(dataset.items)):
        raise DataError(f"a history holds an item row outside 0–{len(dataset.items) - 1}")


def _write_files(dataset: Dataset, folder: Path) -> CatalogueManifest:
    # "\n" on every system: the hash of the file is part of the catalogue's version.
    with (folder / ITEMS).open("w", encoding="utf-8", newline="\n") as stream:
        for item in dataset.items:
            stream.write(json.dumps(item.to_json(), ensure_ascii=False) + "\n")
    np.savez(
        folder / HISTORIES,
        user_ids=np.array(dataset.users, dtype=np.str_),
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


def _refuse_other(target: Path, manifest: CatalogueManifest) -> None:
    found = read_manifest(target.parent)
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
    digest_of = {item.item_id: item.image_sha256 for item in items}
    before = {item.item_id: item.image_sha256 for item in _read_items(old / ITEMS)}
    for captioner, path in caption_files(old).items():
        by_item = read_captions(path)
        kept = {i: c for i, c in by_item.items() if i in digest_of and digest_of[i] == before.get(i)}
        captions.setdefault(captioner, {}).update(kept)


def _read_items(path: Path) -> tuple[Item, ...]:
    try:
        with path.open(encoding="utf-8", newline="\n") as stream:
            return tuple(Item.from_json(json.loads(line)) for line in stream)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read ({error}): write the catalogue again") from error


def _read_histories(path: Path) -> tuple[tuple[str, ...], tuple[Rows, ...]]:
    with np.load(path, allow_pickle=False) as arrays:
        users = tuple(arrays["user_ids"].tolist())
        histories = np.split(arrays["item_rows"], arrays["offsets"][1:-1])
    return users, tuple(histories)
