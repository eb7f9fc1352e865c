"""Reads Amazon Review Plus, the data set of MSRBench (Zhou et al., WWW 2025), and any data in its layout.

    datamaps.json         id2user, id2item: internal id -> public id; or user2id, item2id
    item2side.json        by internal item id: asin, title, categories, keywords, image
    sequential.txt        a line per user: internal user id, then internal item ids, oldest first
    purchase_history.pkl  the same histories as a pickled list of lists, instead of sequential.txt or beside
    negative_samples.*    optional: a line (or list) per user: user id, then item ids; see ``negatives``
    photos/               optional: the files named by item2side's image_path

``image`` is ``{"image_path": file name, "image_description": {captioner: caption}}``; any field may be
missing. A file other than ``datamaps.json`` may have public ids where internal ones are usual: which of the
two it has is told by what the maps know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.data.amazon_plus.files import read_json
from models.data.amazon_plus.histories import (
    PURCHASE_HISTORY,
    SEQUENTIAL,
    Lists,
    check_pickled,
    histories,
    plain_lists,
    text_lists,
)
from models.data.amazon_plus.ids import DATAMAPS, IdMap, read_id_map
from models.data.amazon_plus.negatives import read_negatives
from models.data.amazon_plus.records import ITEM2SIDE, Record, read_captions, read_items, records_by_item
from models.data.assemble import RawData, assemble
from models.data.dataset import Dataset
from models.data.pictures import PictureFolder, find_pictures
from models.data.plain_pickle import load_plain_pickle
from models.data.report import ReadingReport
from models.errors import DataError


def recognises(folder: Path) -> bool:
    """Returns whether the folder has this layout."""
    here = {name for name in (DATAMAPS, ITEM2SIDE, SEQUENTIAL, PURCHASE_HISTORY) if (folder / name).is_file()}
    return {DATAMAPS, ITEM2SIDE} <= here and len(here) > 2


def read(
    folder: Path,
    name: str | None = None,
    pictures: Path | None = None,
    report: ReadingReport | None = None,
) -> Dataset:
    """Reads a folder of this layout: rows in the order of ``id2item``, users in that of the histories.

    Args:
        folder: folder with the files above.
        name: name of the data set; the folder's name in lower case by default.
        pictures: folder of pictures, where it is not in one of the usual places (see ``find_pictures``).
        report: report that what is left out or changed is counted in; None for one of its own.

    Raises:
        DataError: a file is missing or damaged, two files are of different data, or nothing is left.
    """
    report = ReadingReport() if report is None else report
    name = name or folder.resolve().name.lower()
    images = find_pictures(folder, name, pictures)
    files = _read_files(folder, report)
    users, items, records = files.users, files.items, files.records
    ours = histories(files.lists, users, items, report)
    if files.pickled is not None:
        check_pickled(files.pickled, ours, users, items, report)
    elif files.lists.source == PURCHASE_HISTORY and items.is_ambiguous(files.lists.items):
        raise DataError(
            f"{folder / PURCHASE_HISTORY}: its ids may be internal or public ones, of different items: write "
            f"{SEQUENTIAL}, with internal ids"
        )
    dataset = assemble(
        RawData(
            name=name,
            items=read_items(items, records, PictureFolder(images), report),
            users=[users.public[number] for number in ours.users],
            offsets=ours.offsets,
            item_rows=ours.item_rows,
            item_place=items.place,
            user_place=ours.place,
            images=images,
            captions=read_captions(items, records, report),
            negatives=read_negatives(folder, ours, users, items, report),
        ),
        report,
    )
    if not dataset.interactions:
        raise DataError(
            f"{folder / files.lists.source}: no user has an item, so nothing is left to learn from"
        )
    return dataset


def with_captions(folder: Path, captions: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Adds captions to the contents of ``item2side.json``, in the form that the data set's authors published.

    Args:
        folder: folder with the files above.
        captions: caption by captioner and public item id. Captions of other captioners stay.

    Returns:
        Records by internal item id; those of items that the data set lacks stay.

    Raises:
        DataError: the folder cannot be read, or a caption is about an item that it does not have.
    """
    files = _read_files(folder, ReadingReport())
    numbers = files.items.by_public
    records = dict(files.records)
    for captioner, by_item in captions.items():
        for item_id, caption in by_item.items():
            if item_id not in numbers:
                raise DataError(
                    f"{folder} has no item {item_id}: are the captions those of another data set?"
                )
            record = dict(records.get(numbers[item_id], {"asin": item_id}))
            image = record.get("image") or {}
            image = dict(image) if isinstance(image, dict) else {"image_path": image}
            there = image.get("image_description")
            image["image_description"] = {**(there if isinstance(there, dict) else {}), captioner: caption}
            records[numbers[item_id]] = {**record, "image": image}
    internal = files.items.internal
    others = files.side if isinstance(files.side, dict) else {}
    return {
        **{name: record for name, record in others.items() if name not in files.items.by_public},
        **{internal[number]: record for number, record in records.items()},
    }


def public_ids(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the public ids of users and of items, by internal id; those without one are left out.

    Raises:
        DataError: the folder has not this layout, or cannot be read.
    """
    if not recognises(folder):
        raise DataError(
            f"{folder} has no {DATAMAPS} and {SEQUENTIAL}: internal ids are those of a data set in the "
            "layout of Amazon Review Plus"
        )
    files = _read_files(folder, ReadingReport())
    users, items = (
        {internal: public for internal, public in zip(ids.internal, ids.public, strict=True) if public}
        for ids in (files.users, files.items)
    )
    return users, items


@dataclass(frozen=True)
class _Files:
    """What the files of a folder hold, not yet brought together."""

    users: IdMap
    items: IdMap
    side: object
    records: Mapping[int, Record]
    lists: Lists
    pickled: Lists | None


def _read_files(folder: Path, report: ReadingReport) -> _Files:
    maps, side = read_json(folder / DATAMAPS, report), read_json(folder / ITEM2SIDE, report)
    if not isinstance(maps, dict):
        raise DataError(f"{folder / DATAMAPS} must hold a JSON object, not a {type(maps).__name__}")
    pickled = None
    if (path := folder / PURCHASE_HISTORY).is_file():
        pickled = plain_lists(load_plain_pickle(path), path, report)
    if pickled is None or (folder / SEQUENTIAL).is_file():
        lists = text_lists(folder / SEQUENTIAL, report)
    else:
        lists, pickled = pickled, None
    items = read_id_map(maps, "item", lambda: lists.items, side, report)
    users = read_id_map(
        maps,
        "user",
        lambda: lists.users or (),
        None,
        report,
        like=items,
    )
    return _Files(users, items, side, records_by_item(side, items, report), lists, pickled)
