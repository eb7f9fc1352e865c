"""Reads Amazon Review Plus, the data set of MSRBench (Zhou et al., WWW 2025), and any data in its layout.

    datamaps.json         id2user, id2item: internal id -> public id
    item2side.json        by internal item id: asin, title, categories, keywords, image
    sequential.txt        a line per user: internal user id, then internal item ids, oldest first
    purchase_history.pkl  optional: the same histories as a pickled list of lists
    negative_samples.txt  optional: a line per user: user id, then public item ids
    photos/               optional: the files named by item2side's image_path

``image`` is ``{"image_path": file name, "image_description": {captioner: caption}}``; any field may be
missing.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.contracts import Item
from models.data.dataset import Dataset, Rows
from models.data.pictures import PictureFolder, find_photos
from models.data.plain_pickle import load_plain_pickle
from models.data.report import ReadingReport
from models.data.text import clean, clean_all
from models.errors import DataError

DATAMAPS = "datamaps.json"
ITEM2SIDE = "item2side.json"
SEQUENTIAL = "sequential.txt"
PURCHASE_HISTORY = "purchase_history.pkl"
NEGATIVE_SAMPLES = "negative_samples.txt"


def recognises(folder: Path) -> bool:
    """Returns whether the folder has this layout."""
    return all((folder / name).is_file() for name in (DATAMAPS, ITEM2SIDE, SEQUENTIAL))


def read(
    folder: Path,
    name: str | None = None,
    photos: Path | None = None,
    report: ReadingReport | None = None,
) -> Dataset:
    """Reads a folder of this layout: rows in the order of ``id2item``, users in that of ``sequential.txt``.

    Args:
        folder: folder with the files above.
        name: name of the data set; the folder's name in lower case by default.
        photos: folder of pictures, where it is not in one of the usual places (see ``find_photos``).
        report: report that what is left out or changed is counted in; None for one of its own.

    Raises:
        DataError: a file is missing, damaged, or two files contradict each other.
    """
    name = name or folder.resolve().name.lower()
    maps = _read_object(folder / DATAMAPS)
    id2user, id2item = (_id_map(maps, key, folder / DATAMAPS) for key in ("id2user", "id2item"))
    side = _read_object(folder / ITEM2SIDE)
    row_of = {internal: row for row, internal in enumerate(id2item)}
    images = find_photos(folder, name, photos)
    pictures = PictureFolder(images)
    items = tuple(
        _item(internal, public, side.get(internal, {}), pictures) for internal, public in id2item.items()
    )
    report = report or ReadingReport()
    for internal in id2item:
        if (problem := pictures.problem(_record(side, internal).get("image"))) is not None:
            report.change("items", problem, f"{ITEM2SIDE}, item {internal}")
    histories = dict(_sequences(folder / SEQUENTIAL, id2user, row_of))
    if (folder / PURCHASE_HISTORY).is_file():
        _check_pickle(folder / PURCHASE_HISTORY, histories, row_of)
    users = tuple(id2user[internal] for internal in histories)
    return Dataset(
        name=name,
        items=items,
        users=users,
        histories=tuple(histories.values()),
        images=images,
        captions=_captions(side, row_of),
        negatives=_negatives(folder / NEGATIVE_SAMPLES, list(histories), users, items),
        report=report,
    )


def with_captions(folder: Path, captions: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Adds captions to the contents of ``item2side.json``, in the form that the data set's authors published.

    Args:
        folder: folder with the files above.
        captions: caption by captioner and public item id. Captions of other captioners stay.

    Raises:
        DataError: the folder cannot be read, or a caption is about an item that it does not have.
    """
    internal_of = {public: internal for internal, public in _item_ids(folder).items()}
    side = _read_object(folder / ITEM2SIDE)
    for captioner, by_item in captions.items():
        for item_id, caption in by_item.items():
            if item_id not in internal_of:
                raise DataError(
                    f"{folder} has no item {item_id}: are the captions those of another data set?"
                )
            record = side.setdefault(internal_of[item_id], {"asin": item_id})
            record.setdefault("image", {}).setdefault("image_description", {})[captioner] = caption
    return side


def _item_ids(folder: Path) -> dict[str, str]:
    return _id_map(_read_object(folder / DATAMAPS), "id2item", folder / DATAMAPS)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing: the Amazon Review Plus layout needs it") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}): fetch it again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} must hold a JSON object, not a {type(value).__name__}")
    return value


def _id_map(maps: Mapping[str, Any], key: str, path: Path) -> dict[str, str]:
    """Reads the map of internal to public ids, both as strings, both unique."""
    value = maps.get(key)
    if not isinstance(value, dict) or not value:
        raise DataError(f"{path}: {key} must be a non-empty object from internal to public ids")
    result = {internal: _plain_id(public, path, key) for internal, public in value.items()}
    if len(set(result.values())) < len(result):
        twice, _ = Counter(result.values()).most_common(1)[0]
        raise DataError(f"{path}: {key} gives {twice!r} to more than one internal id")
    return result


def _plain_id(value: object, path: Path, key: str) -> str:
    # JSON true is an int to Python.
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        raise DataError(f"{path}: {key} holds {value!r}, which is no id")
    return str(value)


def _item(internal: str, public: str, record: object, pictures: PictureFolder) -> Item:
    if not isinstance(record, dict):
        raise DataError(f"{ITEM2SIDE}: item {internal} must be an object, not a {type(record).__name__}")
    if (asin := record.get("asin", public)) != public:
        raise DataError(
            f"item {internal} is {public} in {DATAMAPS} and {asin} in {ITEM2SIDE}: one is of other data"
        )
    return Item(
        item_id=public,
        title=clean(record.get("title")),
        categories=clean_all(record.get("categories")),
        keywords=clean(record.get("keywords")),
        image=pictures.find(record.get("image")),
    )


def _record(side: Mapping[str, Any], internal: str) -> Mapping[str, Any]:
    record = side.get(internal)
    return record if isinstance(record, dict) else {}


def _image(record: Mapping[str, Any]) -> Mapping[str, Any]:
    image = record.get("image")
    return image if isinstance(image, dict) else {}


def _captions(side: Mapping[str, Any], row_of: Mapping[str, int]) -> dict[str, dict[int, str]]:
    captions: dict[str, dict[int, str]] = {}
    for internal, row in row_of.items():
        descriptions = _image(side.get(internal, {})).get("image_description")
        for captioner, text in descriptions.items() if isinstance(descriptions, dict) else ():
            if caption := clean(text):
                captions.setdefault(_file_name(captioner), {})[row] = caption
    return captions


def _file_name(captioner: str) -> str:
    """Makes a captioner's name fit to be a file name in a bundle."""
    return re.sub(r"[^\w.-]+", "-", captioner)


def _sequences(path: Path, users: Mapping[str, str], row_of: Mapping[str, int]) -> Iterator[tuple[str, Rows]]:
    """Yields internal user id and item rows, line by line."""
    seen: set[str] = set()
    for number, (user, *items) in _word_lines(path):
        if user not in users:
            raise DataError(f"{path}, line {number}: user {user} is not in {DATAMAPS}")
        if user in seen:
            raise DataError(f"{path}, line {number}: user {user} has a line already")
        seen.add(user)
        yield user, _rows(items, row_of, f"{path}, line {number}", DATAMAPS)


def _word_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the number and the words of every line that is not empty."""
    try:
        # Not splitlines(): it also splits at separators such as U+2028.
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}): fetch it again") from error
    return ((number, words) for number, line in enumerate(lines, 1) if (words := line.split()))


def _rows(items: list[str], row_of: Mapping[str, int], where: str, source: str) -> Rows:
    try:
        return np.array([row_of[item] for item in items], dtype=np.int32)
    except KeyError as error:
        raise DataError(f"{where}: item {error.args[0]} is not in {source}") from None


def _check_pickle(path: Path, histories: Mapping[str, Rows], row_of: Mapping[str, int]) -> None:
    """Refuses a pickle that does not repeat ``sequential.txt``: one of the two is wrong."""
    pickled = load_plain_pickle(path)
    if not isinstance(pickled, list) or not all(isinstance(items, list) for items in pickled):
        raise DataError(f"{path} must hold a list of lists")
    if len(pickled) != len(histories):
        raise DataError(
            f"{path} has {len(pickled)} users and {SEQUENTIAL} has {len(histories)}: use one of the two"
        )
    for (user, rows), items in zip(histories.items(), pickled, strict=True):
        other = [row_of.get(str(item), -1) for item in items]  # -1: an item that is in no other file
        if other == rows.tolist():
            continue
        pairs = enumerate(zip(rows.tolist(), other, strict=False))
        at = next((at for at, (ours, theirs) in pairs if ours != theirs), min(len(rows), len(other)))
        raise DataError(
            f"{path} and {SEQUENTIAL} disagree about user {user} from item {at + 1} on: remove the wrong one"
        )


def _negatives(
    path: Path, internal_ids: list[str], public_ids: tuple[str, ...], items: tuple[Item, ...]
) -> dict[int, Rows] | None:
    """Reads the sampled negatives that came with the data: item rows by user position.

    The first word of a line is the user's public id in the published files; files that use the internal one
    are read as well.
    """
    if not path.is_file():
        return None
    lines = list(_word_lines(path))
    # One file holds one kind of id; a mixture is refused below as an unknown user.
    public = set(public_ids).issuperset(words[0] for _, words in lines)
    position = {user: at for at, user in enumerate(public_ids if public else internal_ids)}
    row_of = {item.item_id: row for row, item in enumerate(items)}
    negatives = {}
    for number, (user, *words) in lines:
        if user not in position:
            raise DataError(f"{path}, line {number}: user {user} has no history in {SEQUENTIAL}")
        negatives[position[user]] = _rows(words, row_of, f"{path}, line {number}", f"the items of {DATAMAPS}")
    return negatives
