"""Reads J. McAuley's Amazon reviews as he publishes them (2014 collection; He & McAuley, WWW 2016).

    reviews_X_5.json.gz or reviews_X.json.gz   one review a line: reviewerID, asin, unixReviewTime, …
    meta_X.json.gz                             one product a line: asin, title, categories, imUrl, …
    photos/                                    optional: pictures named as at the end of imUrl

The lines of ``meta`` are Python literals, not JSON: they are parsed as literals and never evaluated.
"""

from __future__ import annotations

import ast
import gzip
import json
import logging
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.contracts import Interaction, Item
from models.data.dataset import Dataset, Rows
from models.data.k_core import k_core
from models.data.pictures import PictureFolder, find_photos
from models.data.report import ReadingReport
from models.data.text import clean, clean_all
from models.errors import DataError

log = logging.getLogger(__name__)

CORE = 5
"""Reviews that every user and every item must have; rarer ones are left out, as in McAuley's 5-core files."""


def recognises(folder: Path) -> bool:
    """Returns whether the folder has this layout."""
    return bool(_files(folder, "reviews") and _files(folder, "meta"))


def read(
    folder: Path,
    name: str | None = None,
    photos: Path | None = None,
    report: ReadingReport | None = None,
) -> Dataset:
    """Reads the 5-core of a pair of files.

    Histories are in order of time. Time stamps are days, so ties are common: they keep the order of the file.
    A user who reviews an item again keeps the first review alone: repeats would count twice for the 5-core,
    and could put a test item into its own history.

    Args:
        folder: folder with one pair of files.
        name: name of the data set; X of the file names in lower case by default.
        photos: folder of pictures, where it is not in one of the usual places (see ``find_photos``).
        report: report that what is left out or changed is counted in; None for one of its own.

    Raises:
        DataError: a file is damaged, a line has no user, item or time, or nothing is left of the data.
    """
    reviews, meta = _only(folder, "reviews"), _only(folder, "meta")
    name = name or re.sub(r"^reviews_|(_5)?\.json(\.gz)?$", "", reviews.name).lower()
    by_user = _core(_interactions(reviews))
    if not by_user:
        raise DataError(
            f"{reviews}: no user and item have {CORE} reviews each, so nothing is left to learn from"
        )
    row_of: dict[str, int] = {}
    histories = tuple(_rows(item_ids, row_of) for item_ids in by_user.values())
    images = find_photos(folder, name, photos)
    report = report or ReadingReport()
    return Dataset(
        name=name,
        items=_items(meta, row_of, PictureFolder(images), report),
        users=tuple(by_user),
        histories=histories,
        images=images,
        report=report,
    )


def _files(folder: Path, kind: str) -> list[Path]:
    return sorted(p for p in folder.glob(f"{kind}_*") if p.name.endswith((".json", ".json.gz")))


def _only(folder: Path, kind: str) -> Path:
    found = _files(folder, kind)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(
            f"{folder} must hold one {kind}_X.json.gz and has {names}: one folder for each data set"
        )
    return found[0]


def _interactions(path: Path) -> Iterator[Interaction]:
    for where, record in _records(path):
        user, item, time = (record.get(key) for key in ("reviewerID", "asin", "unixReviewTime"))
        if not (isinstance(user, str) and user and isinstance(item, str) and item):
            raise DataError(f"{where}: a review needs the texts reviewerID and asin")
        if isinstance(time, bool) or not isinstance(time, int):
            raise DataError(f"{where}: unixReviewTime must be a whole number of seconds, not {time!r}")
        yield Interaction(user, item, time)


def _core(interactions: Iterable[Interaction]) -> dict[str, list[str]]:
    """Filters the interactions to the 5-core: public item ids, oldest first, by public user id."""
    # sorted() is stable: reviews of one day stay in the order of the file.
    by_time = sorted(interactions, key=lambda interaction: interaction.timestamp)
    # A dict keeps the first of equal pairs, and their order.
    pairs = dict.fromkeys((interaction.user_id, interaction.item_id) for interaction in by_time)
    if repeats := len(by_time) - len(pairs):
        log.warning("%d repeated reviews were left out", repeats)
    kept = k_core(_numbers(user for user, _ in pairs), _numbers(item for _, item in pairs), CORE)
    by_user: dict[str, list[str]] = {}
    for (user, item), keep in zip(pairs, kept.tolist(), strict=True):
        if keep:
            by_user.setdefault(user, []).append(item)
    return by_user


def _numbers(ids: Iterable[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Numbers ids from 0 in the order of their first appearance, int64 [ids]."""
    number_of: dict[str, int] = {}
    return np.array([number_of.setdefault(i, len(number_of)) for i in ids], dtype=np.int64)


def _rows(item_ids: Iterable[str], row_of: dict[str, int]) -> Rows:
    """Turns item ids into rows, and gives new items new rows."""
    return np.array([row_of.setdefault(item_id, len(row_of)) for item_id in item_ids], dtype=np.int32)


def _items(
    meta: Path, row_of: Mapping[str, int], pictures: PictureFolder, report: ReadingReport
) -> tuple[Item, ...]:
    items = [Item(item_id) for item_id in row_of]
    known = set()
    for where, record in _records(meta):
        item_id = record.get("asin")
        if not isinstance(item_id, str):
            raise DataError(f"{where}: a product needs the text asin")
        if (row := row_of.get(item_id)) is not None:
            known.add(row)
            items[row] = _item(item_id, record, pictures)
            if (problem := pictures.problem(record.get("imUrl"))) is not None:
                report.change("items", problem, where)
    if missing := len(items) - len(known):
        log.warning("%d of %d items are not in %s and have no title", missing, len(items), meta.name)
    return tuple(items)


def _item(item_id: str, record: Mapping[str, Any], pictures: PictureFolder) -> Item:
    paths = record.get("categories")
    return Item(
        item_id=item_id,
        title=clean(record.get("title")),
        # A product may stand in several branches of the tree of categories; the first is taken.
        categories=clean_all(paths[0] if isinstance(paths, list) and paths else None),
        image=pictures.find(record.get("imUrl")),
    )


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each line's file and number, for messages, and its contents."""
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, _parse(line, where)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            yield from stream
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read to its end ({error}): fetch it again") from error


def _parse(line: bytes, where: str) -> dict[str, Any]:
    """Parses a line as JSON, else as a Python literal, which takes ten times as long: there are both."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = _parse_literal(line, where)
    if not isinstance(record, dict):
        raise DataError(f"{where} must hold an object, not a {type(record).__name__}")
    return record


def _parse_literal(line: bytes, where: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd backslashes in product descriptions
            # Literals alone: a call or a name in the line raises.
            return ast.literal_eval(line.decode().strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise DataError(
            f"{where} is neither JSON nor a Python literal ({error}): repair or remove it"
        ) from error
