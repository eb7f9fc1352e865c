"""Makes a data set of a shop's own tables: orders, products, and a folder of pictures."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.contracts import Item
from models.data.assemble import RawData, assemble
from models.data.dataset import Dataset
from models.data.pictures import PictureFolder
from models.data.report import ReadingReport
from models.data.tables.columns import ITEM, TIME
from models.data.tables.orders import Orders, core_of, read_orders
from models.data.tables.products import Products, find_picture, read_products
from models.data.tables.table import Faults
from models.errors import DataError


@dataclass(frozen=True)
class ShopFiles:
    """What is read, and how.

    Attributes:
        interactions: table of orders, clicks or ratings.
        items: table of products; None where the items are what the orders name.
        pictures: folder of pictures; None without any.
        columns: names of columns that were said; the others are guessed.
        day_first: whether dates such as 3/4/2024 have the day first; None to tell it by the dates.
        core: interactions that every user and item must have; None for all users and items, also products
            that no order names.
    """

    interactions: Path
    items: Path | None = None
    pictures: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    day_first: bool | None = None
    core: int | None = None


@dataclass(frozen=True)
class Shop:
    """A data set, and how its tables were understood.

    Attributes:
        dataset: items and histories.
        columns: a line for each table about which column is what.
    """

    dataset: Dataset
    columns: Sequence[str]


def read_shop(files: ShopFiles, name: str | None = None, report: ReadingReport | None = None) -> Shop:
    """Reads the tables of a shop.

    Histories are in the order of time; what is of one time, and all where no column holds times, in that of
    the file. Interactions with items that the table of products lacks are left out.

    Args:
        files: tables and pictures.
        name: name of the data set; made from the name of the interactions' file by default.
        report: report that what is left out or changed is counted in; None for one of its own.

    Raises:
        DataError: a file is missing, no table, or lacks a column; or nothing is left of the data.
    """
    report = report or ReadingReport()
    if files.pictures is not None and not files.pictures.is_dir():
        raise DataError(f"{files.pictures} is no folder: --pictures names the folder of item pictures")
    pictures = PictureFolder(files.pictures)
    orders = read_orders(files.interactions, files.columns, report, files.day_first)
    if files.items is None:
        products, row_of = _products_of_orders(orders, pictures)
    else:
        products = read_products(files.items, files.columns, pictures, report, orders.columns.names[ITEM])
        row_of = _rows(products.items, orders.items)
        orders = _of_products(orders, products, row_of, files.items.name)
    if files.core is not None:
        orders = core_of(orders, files.core)
        products, row_of = _ordered_alone(products, row_of, orders)
    dataset = assemble(_raw(name or _name(files.interactions), orders, products, row_of, pictures), report)
    return Shop(dataset, _lines(files, orders, products))


_UNKNOWN = -1  # row of an item that the table of products lacks


def _products_of_orders(orders: Orders, pictures: PictureFolder) -> tuple[Products, NDArray[np.int64]]:
    """Makes a product of every item that is ordered, with a picture that is named after its id."""
    used, first = np.unique(orders.item_of, return_index=True)
    row_of = np.full(len(orders.items), _UNKNOWN, dtype=np.int64)
    row_of[used] = np.arange(len(used))
    faults = Faults("items", orders.faults.file, orders.faults.unit, orders.faults.report)
    items = [
        Item(orders.items[at], image=find_picture(pictures, orders.items[at], None, faults, 0))
        for at in used.tolist()
    ]
    return Products(items, orders.rows[first], orders.columns, faults), row_of


def _rows(items: Sequence[Item], ordered: Sequence[str]) -> NDArray[np.int64]:
    """Returns the row of each ordered item, int64 [ordered]; of products with one id the first."""
    row_of: dict[str, int] = {}
    for row, item in enumerate(items):
        row_of.setdefault(item.item_id, row)
    return np.array([row_of.get(item_id, _UNKNOWN) for item_id in ordered], dtype=np.int64)


def _of_products(orders: Orders, products: Products, row_of: NDArray[np.int64], file: str) -> Orders:
    """Leaves out interactions with items that the products lack, and says where they have nearly the same."""
    unknown = row_of == _UNKNOWN
    if not unknown[orders.item_of].any():
        return orders
    written = {_bare(item.item_id): item.item_id for item in products.items}
    similar = np.array([gone and _bare(orders.items[at]) in written for at, gone in enumerate(unknown)])
    if (where := similar[orders.item_of]).any():
        ours = orders.items[orders.item_of[np.argmax(where)]]
        reason = (
            f"{file} writes their item otherwise, {written[_bare(ours)][:40]!r} for {ours[:40]!r}: ids must "
            "be the same in zeros, capitals, signs and composed accents"
        )
        orders = orders.without(where, reason)
    return orders.without(unknown[orders.item_of], f"{file} has no such item")


def _bare(item_id: str) -> str:
    """Takes away what programs change in an id: capitals, signs, zeros at the beginning, forms of letters."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", item_id).casefold()).lstrip("0")


def _ordered_alone(
    products: Products, row_of: NDArray[np.int64], orders: Orders
) -> tuple[Products, NDArray[np.int64]]:
    """Takes products without an interaction out of the catalogue, as those of a k-core are."""
    kept = np.unique(row_of[orders.item_of])
    left_out = len(products.items) - len(kept)
    if left_out:
        first = int(np.setdiff1d(np.arange(len(products.items)), kept)[0])
        products.faults.skip("no interaction of the k-core is with them", int(products.rows[first]), left_out)
    moved = np.full(len(products.items) + 1, _UNKNOWN, dtype=np.int64)
    moved[kept] = np.arange(len(kept))
    items = [products.items[row] for row in kept.tolist()]
    return Products(items, products.rows[kept], products.columns, products.faults), moved[row_of]


def _raw(
    name: str, orders: Orders, products: Products, row_of: NDArray[np.int64], pictures: PictureFolder
) -> RawData:
    order = orders.by_user()
    users, first, counts = np.unique(orders.user_of, return_index=True, return_counts=True)
    return RawData(
        name=name,
        items=products.items,
        users=[orders.users[user] for user in users.tolist()],
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        item_rows=row_of[orders.item_of[order]].astype(np.int32),
        item_place=lambda row: products.faults.place(int(products.rows[row])),
        user_place=lambda position: orders.faults.place(int(orders.rows[first[position]])),
        images=pictures.folder,
    )


def _lines(files: ShopFiles, orders: Orders, products: Products) -> list[str]:
    lines = [orders.columns.line()]
    if TIME not in orders.columns.positions:
        lines[0] += "; no time: the order of the file (--time-column names one)"
    if files.items is not None:
        lines.append(products.columns.line())
    if files.pictures is None and "picture" in products.columns.positions:
        lines[-1] += ", not used: --pictures names their folder"
    return lines


def _name(path: Path) -> str:
    return path.name.partition(".")[0].lower() or "shop"
