"""Reads a table of orders, clicks or ratings: who took what, and when."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.data.k_core import k_core
from models.data.report import ReadingReport
from models.data.tables.columns import ITEM, QUANTITY, TIME, USER, Columns, order_columns
from models.data.tables.formats import open_table
from models.data.tables.ids import MISSING, IdColumn
from models.data.tables.table import Faults
from models.data.tables.time_column import TimeColumn
from models.errors import DataError


@dataclass(frozen=True)
class Orders:
    """Interactions in the order of the file.

    Attributes:
        users: different user ids.
        items: different item ids.
        user_of: position in ``users``, int32 [interactions].
        item_of: position in ``items``, int32 [interactions].
        times: seconds since 1970, float64 [interactions]; None where the order of the file is that of time.
        rows: line of each, int64 [interactions].
        columns: which column is what.
        faults: where interactions are counted that are left out.
    """

    users: Sequence[str]
    items: Sequence[str]
    user_of: NDArray[np.int32]
    item_of: NDArray[np.int32]
    times: NDArray[np.float64] | None
    rows: NDArray[np.int64]
    columns: Columns
    faults: Faults

    def keep(self, kept: NDArray[np.bool_]) -> Orders:
        """Returns the marked interactions, bool [interactions]; ids stay as they are."""
        return Orders(
            self.users,
            self.items,
            self.user_of[kept],
            self.item_of[kept],
            None if self.times is None else self.times[kept],
            self.rows[kept],
            self.columns,
            self.faults,
        )

    def without(self, gone: NDArray[np.bool_], reason: str) -> Orders:
        """Leaves the marked interactions out, bool [interactions], and counts them with the reason."""
        if gone.any():
            self.faults.leave_out(reason, int(self.rows[np.argmax(gone)]), int(gone.sum()))
        return self.keep(~gone)

    def without_intended(self, gone: NDArray[np.bool_], reason: str) -> Orders:
        """Leaves the marked interactions out as is usual or asked for: counted, without a limit."""
        if gone.any():
            self.faults.skip(reason, int(self.rows[np.argmax(gone)]), int(gone.sum()))
        return self.keep(~gone)

    def by_user(self) -> NDArray[np.int64]:
        """Returns the order by user, then time, then line, int64 [interactions]."""
        keys = (self.user_of,) if self.times is None else (self.times, self.user_of)
        return np.lexsort(keys)  # stable: what is of one time keeps the order of the file


def read_orders(
    path: Path, said: Mapping[str, str], report: ReadingReport, day_first: bool | None = None
) -> Orders:
    """Reads a table of orders.

    A row without user, item or a time that can be read is left out. So is one of a quantity that is not
    positive: a return or a cancelled order is no interaction, which is usual and has no limit.

    Args:
        path: file in any format of ``open_table``.
        said: names of columns.
        report: report that what is left out or changed is counted in.
        day_first: whether dates such as 3/4/2024 have the day first; None to tell it by the column.

    Raises:
        DataError: the file is no table, lacks a column, or nothing is left of it.
    """
    table = open_table(path)
    columns = order_columns(path, table, said)
    faults = Faults("interactions", path.name, table.unit, report)
    users, items, times = IdColumn(), IdColumn(), TimeColumn(day_first)
    numbers = [np.empty(0, dtype=np.int64)]
    returned = [np.empty(0, dtype=np.bool_)]
    at = {role: position for position, role in enumerate(columns.positions)}
    for batch in table.batches(list(columns.positions.values()), faults):
        numbers.append(np.array(batch.numbers, dtype=np.int64))
        users.add(batch.columns[at[USER]])
        items.add(batch.columns[at[ITEM]])
        if TIME in at:
            times.add(batch.columns[at[TIME]])
        if QUANTITY in at:
            returned.append(_returned(batch.columns[at[QUANTITY]]))
    rows = np.concatenate(numbers)
    user_ids, item_ids = users.finish(USER, rows, faults), items.finish(ITEM, rows, faults)
    orders = Orders(
        user_ids.ids,
        item_ids.ids,
        user_ids.numbers,
        item_ids.numbers,
        times.finish(f"{path}, {columns.names[TIME]}") if TIME in at else None,
        rows,
        columns,
        faults,
    )
    if QUANTITY in at:
        reason = "their quantity is not positive, as of a return"
        orders = orders.without_intended(np.concatenate(returned), reason)
    orders = orders.without(orders.user_of == MISSING, f"the user {user_ids.missing}")
    orders = orders.without(orders.item_of == MISSING, f"the item {item_ids.missing}")
    if orders.times is not None:
        orders = orders.without(np.isnan(orders.times), times.unread)
    if not len(orders.rows):
        report.check()  # says what is wrong with the rows, if there are any
        raise DataError(f"{path} holds no row with a user and an item, so there is nothing to learn from")
    return orders


def core_of(orders: Orders, k: int) -> Orders:
    """Leaves out users and items of fewer than ``k`` interactions, until all have as many.

    A user's repeated interactions with an item count once.
    """
    pairs = orders.user_of.astype(np.int64) * len(orders.items) + orders.item_of
    different, pair_of = np.unique(pairs, return_inverse=True)
    kept = k_core(different // len(orders.items), different % len(orders.items), k)[pair_of]
    if not kept.any():
        raise DataError(f"no users and items have {k} interactions each: take a smaller --core, or none")
    return orders.without_intended(~kept, f"not in the {k}-core")


def _returned(values: Sequence[object]) -> NDArray[np.bool_]:
    """Marks quantities of zero and less, bool [values]; what is no number says nothing."""
    return np.array([_is_returned(value) for value in values], dtype=np.bool_)


def _is_returned(value: object) -> bool:
    if isinstance(value, str) and _NOT_POSITIVE.fullmatch(value.strip()):
        return True
    try:
        return isinstance(value, str | int | float) and float(value) <= 0
    except (ValueError, OverflowError):
        return False


# As people write them: -1,00 or -1.000,5, 1- (SAP), 0,00.
_NOT_POSITIVE = re.compile(r"[-\u2212][\d.,]*\d[\d.,]*|[\d.,]*\d[\d.,]*[-\u2212]|[0.,]*0[0.,]*")
