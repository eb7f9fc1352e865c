"""Reads ``item2side.json``: titles, categories, pictures and captions of the items."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from models.contracts import Item
from models.contracts.captions import MAX_CAPTIONERS
from models.data.amazon_plus.files import shown
from models.data.amazon_plus.ids import DATAMAPS, IdMap, asin_of, id_text
from models.data.pictures import PictureFolder
from models.data.report import ReadingReport
from models.data.text import clean, clean_all
from models.errors import DataError

ITEM2SIDE = "item2side.json"

_LONGEST_NAME = 120  # characters of a captioner's name; with the number of a second one it fits (128)
_NO_TITLE = ("nan", "NaN")  # what programs write that make texts of missing values

Record = Mapping[str, Any]


def records_by_item(side: object, ids: IdMap, report: ReadingReport) -> dict[int, Record]:
    """Finds the record of each item, by item number; items without a record are left out.

    The names of the object are internal ids or public ones: whichever knows more of them. In a list, ``asin``
    says which item a record is about.

    Raises:
        DataError: no record, or only few, are about items of ``datamaps.json``.
    """
    entries, numbers = _entries(side, ids, report)
    records: dict[int, Record] = {}
    contradicting = unknown = 0
    report.read("item records", len(entries))
    for at, (name, record) in enumerate(entries, 1):
        number = None if name is None else numbers.get(name)
        if number is not None and number not in records and isinstance(record, dict):
            asin = record.get("asin")
            if asin == ids.public[number] or id_text(asin) in (None, ids.public[number] or id_text(asin)):
                records[number] = record
                continue
        place = f"{ITEM2SIDE}, item {at if name is None else shown(name)}"
        if number is None:
            unknown += 1
            # Without a limit: the records of a catalogue may be more than the items that were taken.
            report.leave_out("records of other items", f"{DATAMAPS} has no such item", place)
        elif not isinstance(record, dict):
            report.leave_out("item records", "they are no object", place)
        elif number in records:
            report.leave_out("item records", "their item has a record already", place)
        else:
            contradicting += 1
            report.leave_out("item records", f"their asin is not the id that {DATAMAPS} has", place)
    if entries and unknown == len(entries):
        raise DataError(f"{ITEM2SIDE} has no item of {DATAMAPS}: one of the two files is of other data")
    if 2 * contradicting > contradicting + sum("asin" in record for record in records.values()):
        raise DataError(
            f"{contradicting:,} items have one id in {DATAMAPS} and another in {ITEM2SIDE} (asin): one of "
            "the two files is of other data"
        )
    return records


def _entries(
    side: object, ids: IdMap, report: ReadingReport
) -> tuple[Collection[tuple[str | None, Any]], Mapping[str, int]]:
    """Returns the records with the ids of their items, and the numbers of such ids."""
    if isinstance(side, dict):
        known = sum(map(ids.by_internal.__contains__, side))
        if known < len(side) and known < sum(map(ids.by_public.__contains__, side)):
            return side.items(), ids.by_public
        return side.items(), ids.by_internal
    if isinstance(side, list):
        report.change("files", "they are a list: asin says which item a record is about", ITEM2SIDE)
        return [(asin_of(record), record) for record in side], ids.by_public
    raise DataError(f"{ITEM2SIDE} must hold a JSON object, not a {type(side).__name__}")


def read_items(
    ids: IdMap, records: Mapping[int, Record], pictures: PictureFolder, report: ReadingReport
) -> list[Item]:
    """Makes the items of their records, in the order of ``datamaps.json``."""
    items = []
    for number, public in enumerate(ids.public):
        record = records.get(number)
        if record is None:
            items.append(Item(public))
            continue
        place = f"{ITEM2SIDE}, item {shown(ids.internal[number])}"
        entry = record.get("image")
        image = pictures.find(entry)
        if image is None and (problem := pictures.problem(entry)) is not None:
            report.change("items", problem, place)
        items.append(
            Item(
                item_id=public,
                title=_title(record.get("title"), report, place),
                categories=clean_all(record.get("categories"), report, place),
                keywords=clean(record.get("keywords"), report, place),
                image=image,
            )
        )
    return items


def _title(value: object, report: ReadingReport, place: str) -> str | None:
    if value is not None and (not isinstance(value, str) or value in _NO_TITLE):
        report.change("items", "their title is no text: they have none", place)
        return None
    return clean(value, report, place)


def read_captions(
    ids: IdMap, records: Mapping[int, Record], report: ReadingReport
) -> dict[str, dict[int, str]]:
    """Reads the captions of the records: caption by captioner and item number, empty ones left out.

    The names of captioners become fit to be file names in a bundle.

    Raises:
        DataError: there are more than ``MAX_CAPTIONERS`` captioners.
    """
    captions: dict[str, dict[int, str]] = {}
    for number, record in records.items():
        image = record.get("image")
        descriptions = image.get("image_description") if isinstance(image, dict) else None
        place = f"{ITEM2SIDE}, item {shown(ids.internal[number])}"
        if descriptions and not isinstance(descriptions, dict):
            report.change("captions", "image_description is no object of captions: not read", place)
            continue
        for captioner, text in (descriptions or {}).items():
            if text is not None and not isinstance(text, str):
                report.change("captions", "they are no text: not read", place)
            elif caption := clean(text, report, place):
                captions.setdefault(captioner, {})[number] = caption
        if len(captions) > MAX_CAPTIONERS:
            raise DataError(
                f"{ITEM2SIDE} names more than {MAX_CAPTIONERS} captioners: image_description must be an "
                "object from captioner to caption"
            )
    named: dict[str, dict[int, str]] = {}
    taken: set[str] = set()
    for captioner, by_number in captions.items():
        name = _file_name(captioner, taken)
        taken.add(name.casefold())
        if name != captioner:
            reason = "their name becomes one that a file can have"
            report.change("captioners", reason, f"{ITEM2SIDE}, {shown(captioner)}")
        named[name] = by_number
    return named


def _file_name(captioner: str, taken: set[str]) -> str:
    """Makes a name for a captioner's file; some file systems take upper and lower case for one."""
    plain = re.sub(r"[^\w.-]+", "-", captioner, flags=re.ASCII).strip(".-")
    stem = plain[:_LONGEST_NAME] or "captioner"
    name, number = stem, 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem}-{number}"
    return name
