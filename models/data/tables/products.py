"""Reads a table of products: titles, categories and pictures."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.contracts import Item
from models.data.pictures import PictureFolder
from models.data.report import ReadingReport
from models.data.tables.columns import (
    CATEGORY,
    ITEM,
    PICTURE,
    TITLE,
    Columns,
    product_columns,
)
from models.data.tables.formats import open_table
from models.data.tables.ids import MISSING, IdColumn
from models.data.tables.table import Faults
from models.data.text import clean
from models.errors import DataError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".JPG", ".JPEG", ".PNG")
"""Ends of the names of pictures that are named after an item's id."""

_LEVELS = re.compile(r"\s*[>|;]\s*")  # commas and slashes are parts of names: "Clothing, Shoes & Jewelry"


@dataclass(frozen=True)
class Products:
    """Products in the order of the file, ids not yet checked.

    Attributes:
        items: products.
        rows: line of each, int64 [items].
        columns: which column is what.
        faults: where products are counted that are left out, and places of rows.
    """

    items: Sequence[Item]
    rows: NDArray[np.int64]
    columns: Columns
    faults: Faults


def read_products(
    path: Path, said: Mapping[str, str], pictures: PictureFolder, report: ReadingReport, ordered: str
) -> Products:
    """Reads a table of products.

    Args:
        path: file in any format of ``open_table``.
        said: names of columns.
        pictures: folder of pictures. A product's is the one that its row names, else one named after its id.
        report: report that what is left out or changed is counted in.
        ordered: name of the column of items in the table of orders.

    Raises:
        DataError: the file is no table, lacks the column of ids, or holds none.
    """
    table = open_table(path)
    columns = product_columns(path, table, said, ordered)
    faults = Faults("items", path.name, table.unit, report)
    ids, numbers = IdColumn(), [np.empty(0, dtype=np.int64)]
    values: dict[str, list[object]] = {role: [] for role in columns.positions if role != ITEM}
    for batch in table.batches(list(columns.positions.values()), faults):
        numbers.append(np.array(batch.numbers, dtype=np.int64))
        for role, column in zip(columns.positions, batch.columns, strict=True):
            if role == ITEM:
                ids.add(column)
            else:
                values[role].extend(column)
    rows = np.concatenate(numbers)
    found = ids.finish(ITEM, rows, faults)
    missing = found.numbers == MISSING
    if missing.any():
        faults.leave_out(f"the id {found.missing}", int(rows[np.argmax(missing)]), int(missing.sum()))
    kept = np.flatnonzero(~missing)
    items = []
    for at in kept.tolist():
        place = faults.place(int(rows[at]))
        value = {role: column[at] for role, column in values.items()}
        item_id = found.ids[found.numbers[at]]
        items.append(
            Item(
                item_id,
                title=clean(value.get(TITLE), report, place),
                categories=_categories(value.get(CATEGORY), report, place),
                image=find_picture(pictures, item_id, value.get(PICTURE), faults, int(rows[at])),
            )
        )
    if not items:
        report.check()  # says what is wrong with the rows, if there are any
        raise DataError(f"{path} holds no row with the id of a product")
    return Products(items, rows[kept], columns, faults)


def find_picture(
    pictures: PictureFolder, item_id: str, entry: object, faults: Faults, row: int
) -> str | None:
    """Returns the picture that an entry names, else one that is named after the item's id; None without.

    A picture that is named and not there is counted, without a limit: the item has none.
    """
    if entry and (found := pictures.find(entry)) is not None:
        return found
    named = (found for ending in ENDINGS if (found := pictures.find(f"{item_id}{ending}")) is not None)
    by_id = next(named, None) if pictures.folder and "/" not in item_id else None
    if by_id is None and (problem := pictures.problem(entry)) is not None:
        faults.change(problem, row)
    return by_id


def _categories(value: object, report: ReadingReport, place: str) -> tuple[str, ...]:
    """Reads categories, from general to specific: a list, also one written as text, or levels with > | ;."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _list(value)
    if isinstance(value, str):
        value = _LEVELS.split(value)
    if isinstance(value, list) and value and isinstance(value[0], list):
        value = value[0]  # several branches of the tree of categories: the first is taken
    if not isinstance(value, list):
        return ()
    return tuple(dict.fromkeys(text for each in value if (text := clean(each, report, place))))


def _list(text: str) -> object:
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if isinstance(value, list):
            return value
    return text
