"""Numbers the ids of a column, which are texts whatever they look like."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.data.tables.table import Faults

MISSING = -1
"""Number of a row without an id."""

_NONE = frozenset({"", "NULL", "null", "None", "NaN", "nan", "\\N", "<NA>"})  # what programs write for it
_DECIMAL = re.compile(r"-?\d+\.0+")
_WHOLE = re.compile(r"-?\d+(\.0+)?")


@dataclass(frozen=True)
class Ids:
    """The ids of a column.

    Attributes:
        ids: different ids in the order of their first rows.
        numbers: position in ``ids`` for each row, int32 [rows]; ``MISSING`` for one without.
        missing: the end of a sentence about rows without one.
    """

    ids: Sequence[str]
    numbers: NDArray[np.int32]
    missing: str


class IdColumn:
    """The ids of a column while it is read: each different text is held once."""

    def __init__(self) -> None:
        self._number_of: dict[str, int] = {}
        self._parts: list[NDArray[np.int32]] = []
        self._nested = False

    def add(self, values: Sequence[object]) -> None:
        """Adds the values of some rows."""
        number_of = self._number_of
        texts = [value if type(value) is str else _text(value) for value in values]
        self._nested = self._nested or any(isinstance(value, list | dict) for value in values)
        self._parts.append(
            np.array([number_of.setdefault(text, len(number_of)) for text in texts], dtype=np.int32)
        )

    def finish(self, what: str, rows: NDArray[np.int64], faults: Faults) -> Ids:
        """Makes the ids of the texts.

        Space around an id is taken away. Where all are whole numbers and some end in ``.0``, a program has
        held the column as decimal numbers: ``7.0`` is ``7``.

        Args:
            what: whose ids they are, for messages: ``user`` or ``item``.
            rows: line of each row, int64 [rows].
            faults: where changed ids are counted.
        """
        texts = [text.strip() for text in self._number_of]
        numbers = np.concatenate([np.empty(0, dtype=np.int32), *self._parts])
        present = [text for text in texts if text not in _NONE]
        decimal = all(map(_WHOLE.fullmatch, present)) and any(map(_DECIMAL.fullmatch, present))
        number_of: dict[str, int] = {}
        new = np.full(len(texts) + 1, MISSING, dtype=np.int32)
        changed = np.zeros(len(texts) + 1, dtype=np.bool_)
        for at, text in enumerate(texts):
            if text not in _NONE:
                changed[at] = decimal and "." in text
                public = text.partition(".")[0] if decimal else text
                new[at] = number_of.setdefault(public, len(number_of))
        if (where := changed[numbers]).any():
            faults.change(
                f"the {what}'s id is a whole number written as a decimal one, such as 7.0: it is read as 7",
                int(rows[np.argmax(where)]),
                int(where.sum()),
            )
        missing = "is missing, or a list or object, which is no id" if self._nested else "is missing"
        return Ids(list(number_of), new[numbers], missing)


def _text(value: object) -> str:
    """Writes an id of JSON or Parquet as text; empty for what can be none."""
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.1f}" if math.isfinite(value) and value == int(value) else ""
    return str(value) if isinstance(value, int | str) else ""
