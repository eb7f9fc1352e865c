"""Reads what the file of products says of the items of the 5-core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from models.contracts import Item
from models.data.mcauley.records import Records
from models.data.mcauley.reviews import id_of
from models.data.pictures import PictureFolder
from models.data.report import ReadingReport
from models.data.text import clean, clean_all

_PICTURES = ("imUrl", "imageURLHighRes", "imageURL", "images")
"""Fields of pictures in the collections of 2014, 2018 (two) and 2023, the best first."""


class Products:
    """The items of the catalogue, made of their ids and the file of products.

    Args:
        records: file of products.
        ids: public ids of the items in the order of their rows.
        pictures: folder of pictures.
        report: report that what is changed is counted in.

    Attributes:
        items: items in the order of the ids; one that the file does not have is its id alone.
        others: whether the file has other products.

    Raises:
        DataError: the file cannot be read.
    """

    def __init__(
        self, records: Records, ids: Sequence[str], pictures: PictureFolder, report: ReadingReport
    ) -> None:
        self._records = records
        self._pictures = pictures
        self._report = report
        self.items = [Item(item_id) for item_id in ids]
        row_of = {item_id: row for row, item_id in enumerate(ids)}
        self.others = False
        self._line_of: dict[int, int] = {}
        self._unseen: dict[int, str] = {}  # why the picture of an item is not there, by row
        for line, record in records:
            item_id = id_of(record, "parent_asin", "asin")
            if item_id is None:
                records.leave_out(line, "it has no asin")
            elif (row := row_of.get(item_id)) is not None:
                self._add(row, record, line)
            else:
                self.others = True
        for row, problem in self._unseen.items():
            report.change("items", problem, records.place(self._line_of[row]))

    def line(self, row: int) -> int | None:
        """Returns the number of the first line about an item; None if there is none."""
        return self._line_of.get(row)

    def _add(self, row: int, record: Mapping[str, Any], line: int) -> None:
        place = self._records.place(line)
        known = self.items[row]
        if row in self._line_of:
            self._report.change("products", "an earlier record has their asin: they are merged", place)
        self._line_of.setdefault(row, line)
        title = record.get("title")
        # NaN is what a table has where nothing is.
        if title is not None and not isinstance(title, str) and title == title:  # noqa: PLR0124
            self._report.change("items", "their title is no text: they have none", place)
        # Of each field the first record that has it.
        self.items[row] = replace(
            known,
            title=known.title or clean(title, self._report, place),
            categories=known.categories or self._categories(record, place),
            image=known.image or self._picture(row, record),
        )

    def _categories(self, record: Mapping[str, Any], place: str) -> tuple[str, ...]:
        for field in ("categories", "category", "main_category"):
            value = record.get(field)
            if isinstance(value, list) and value and isinstance(value[0], list):
                # A product may stand in several branches of the tree of categories; the first is taken.
                value = value[0]
            if texts := clean_all([value] if isinstance(value, str) else value, self._report, place):
                return texts
        return ()

    def _picture(self, row: int, record: Mapping[str, Any]) -> str | None:
        entries = [record.get(field) for field in _PICTURES]
        name = self._pictures.find(entries)
        if name is not None:
            self._unseen.pop(row, None)
        elif (problem := self._pictures.problem(entries)) is not None:
            self._unseen.setdefault(row, problem)
        return name
