"""Finds the columns of a table by their names: those that are named, else the usual ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.data.tables.table import Table
from models.errors import DataError

USER, ITEM, TIME, QUANTITY = "user", "item", "time", "quantity"
TITLE, CATEGORY, PICTURE = "title", "category", "picture"

ROLES = (USER, ITEM, TIME, QUANTITY, TITLE, CATEGORY, PICTURE)
"""What a column can be; each has its option, ``--<role>-column``."""

_IN_ORDERS, _IN_PRODUCTS = (USER, ITEM, TIME, QUANTITY), (ITEM, TITLE, CATEGORY, PICTURE)

# Names without their capitals and separators. Of several groups the first that a table has counts; two names
# of one group are too many to guess.
_USUAL: Mapping[str, Sequence[str]] = {
    USER: (
        "userid customerid clientid visitorid memberid buyerid shopperid reviewerid accountid",
        "user customer client visitor member buyer shopper reviewer account customerno customernumber "
        "usernumber userpseudoid",
        "email customeremail useremail emailaddress customeremailaddress mail",
        "username customername sessionid session",
    ),
    ITEM: (
        "itemid productid articleid variantid movieid goodsid bookid",
        "sku asin parentasin productsku itemsku lineitemsku variantsku",
        "item product article variant stockcode productcode itemcode articlecode productno articleno "
        "productnumber articlenumber itemnumber",
        "ean gtin isbn upc barcode",
    ),
    TIME: (
        "timestamp eventtime eventtimestamp orderedat purchasedat orderdate ordertime orderdatetime "
        "purchasedate purchasetime invoicedate unixreviewtime tdat",
        "createdat created datetime",
        "time date ts day",
    ),
    QUANTITY: ("quantity qty lineitemquantity orderquantity",),
    TITLE: (
        "title producttitle itemtitle movietitle productname itemname articlename prodname",
        "name",
        "description productdescription",
    ),
    CATEGORY: (
        "categories category productcategory itemcategory categoryname productcategories",
        "producttype producttypename department genres genre articlegroup productgroup",
        "type class collection",
    ),
    PICTURE: (
        "image picture photo imageurl imagepath imagefile imagesrc imagename imagelink pictureurl photourl "
        "picturefile imurl mainimage",
        "images pictures photos img poster posterpath",
        "filename thumbnail thumbnailurl",
    ),
}
_MORE_ITEMS = ("id", "handle")  # in a table of products alone: in one of orders it is the order's


@dataclass(frozen=True)
class Columns:
    """Which column of a table is what.

    Attributes:
        file: name of the file.
        positions: position of the column by role; a role that the table lacks is not in it.
        names: names of these columns as the table has them.
        guessed: roles whose column was found by its usual name.
    """

    file: str
    positions: Mapping[str, int]
    names: Mapping[str, str]
    guessed: frozenset[str]

    def line(self) -> str:
        """Says in one line which column is what, for the command's table."""
        parts = (
            f"{role} = {name}{' (guessed)' if role in self.guessed else ''}"
            for role, name in self.names.items()
        )
        return f"{self.file}: {', '.join(parts)}"


def order_columns(path: Path, table: Table, said: Mapping[str, str]) -> Columns:
    """Finds the columns of a table of orders.

    Raises:
        DataError: the column of users or items is missing, or a column could be any of several.
    """
    found = _find(path, table, _IN_ORDERS, said, _USUAL)
    return _required(path, table, found, USER, ITEM)


def product_columns(path: Path, table: Table, said: Mapping[str, str], ordered: str) -> Columns:
    """Finds the columns of a table of products.

    Args:
        path: file, for messages.
        table: table of products.
        said: names of columns that were said.
        ordered: name of the column of items in the table of orders: where the products have one of this name,
            it is their id.

    Raises:
        DataError: the column of items is missing, or a column could be any of several.
    """
    same = _plain(ordered)
    usual = {**_USUAL, ITEM: (same, *_USUAL[ITEM], *_MORE_ITEMS)}
    if ITEM in said and not _among(table, said[ITEM]):
        # The name that was said is that of the orders; the products may call theirs otherwise.
        said = {role: name for role, name in said.items() if role != ITEM}
    found = _find(path, table, _IN_PRODUCTS, said, usual)
    return _required(path, table, found, ITEM)


def _find(
    path: Path,
    table: Table,
    roles: Sequence[str],
    said: Mapping[str, str],
    usual: Mapping[str, Sequence[str]],
) -> Columns:
    positions: dict[str, int] = {}
    guessed = set()
    for role in roles:
        if (name := said.get(role)) is not None:
            candidates = _among(table, name)
            if not candidates:
                raise DataError(
                    f"{path} has no column {name!r}, which {_option(role)} names; {_there_are(table)}"
                )
        else:
            candidates = _guesses(table, usual[role])
            guessed |= {role} if candidates else set()
        if len(candidates) > 1:
            names = " and ".join(repr(table.columns[at]) for at in candidates)
            raise DataError(
                f"{path}: the columns {names} could each be the {role}: say which with {_option(role)}, and "
                "give columns of the same name different ones"
            )
        if candidates:
            positions[role] = candidates[0]
    named = {role: table.columns[at] for role, at in positions.items()}
    return Columns(path.name, positions, named, frozenset(guessed))


def _required(path: Path, table: Table, found: Columns, *roles: str) -> Columns:
    for role in roles:
        if role not in found.positions:
            headless = _looks_like_data(table.columns)
            lacks = (
                f"{path} has no line of column names, it seems: it begins with {table.first!r}. Put "
                "one before it, such as user_id,item_id,timestamp"
                if headless
                else f"{path} has no column of the usual names for the {role}: say which it is with "
                f"{_option(role)}"
            )
            raise DataError(f"{lacks}; {_there_are(table)}")
    return found


def _among(table: Table, name: str) -> list[int]:
    exact = [at for at, column in enumerate(table.columns) if column == name]
    return exact or [at for at, column in enumerate(table.columns) if _plain(column) == _plain(name) != ""]


def _guesses(table: Table, groups: Sequence[str]) -> list[int]:
    plain = [_plain(column) for column in table.columns]
    for group in groups:
        if found := [at for at, name in enumerate(plain) if name in group.split()]:
            return found
    return []


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def _option(role: str) -> str:
    return f"--{role}-column"


def _there_are(table: Table) -> str:
    shown = [repr(name[:60]) for name in table.columns[:30]]
    more = f" and {len(table.columns) - 30} more" if len(table.columns) > 30 else ""
    return f"there are {', '.join(shown)}{more}" if shown else "there are none"


def _looks_like_data(names: Sequence[str]) -> bool:
    return any(re.fullmatch(r"[\d.:/ T-]+|\S+@\S+\.\w+", name) for name in names)
