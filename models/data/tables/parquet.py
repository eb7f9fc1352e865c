"""Reads tables of Parquet with polars, the one module that needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars

from models.data.tables.table import BATCH, Batch, Faults
from models.errors import DataError

ROWS_WITHOUT_DOUBT = 1_000_000
"""Rows that any file may have."""

ROWS_OF_A_BYTE = 50
"""Rows per byte beyond ``ROWS_WITHOUT_DOUBT``: interactions take a byte each at the very least."""


class ParquetTable:
    """A table of Parquet; see ``Table``. Times become seconds since 1970, in UTC where no zone is said.

    Args:
        path: file.

    Raises:
        DataError: it is damaged, or has more rows than a table of its size can have.
    """

    unit = "row"
    first = ""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _refused(path):
            self._frame = polars.scan_parquet(path)
            self._types = self._frame.collect_schema()
            self._rows = int(self._frame.select(polars.len()).collect().item())
        if self._rows > max(ROWS_WITHOUT_DOUBT, ROWS_OF_A_BYTE * path.stat().st_size):
            raise DataError(
                f"{path} says that it has {self._rows:,} rows, more than its size can hold: write it again"
            )
        self.columns = tuple(self._types.names())

    def batches(self, wanted: Sequence[int], faults: Faults) -> Iterator[Batch]:
        """Reads the rows."""
        names = [self.columns[at] for at in wanted]
        columns = [_plain(name, self._types[name]) for name in dict.fromkeys(names)]
        for start in range(0, self._rows, BATCH * 10):
            with _refused(self._path):
                part = self._frame.select(columns).slice(start, BATCH * 10).collect()
            for at in range(0, len(part), BATCH):
                rows = part.slice(at, BATCH)
                numbers = range(start + at + 1, start + at + len(rows) + 1)
                yield Batch(numbers, [_values(rows[name]) for name in names])


def _values(column: polars.Series) -> list[object]:
    values = column.to_list()
    return list(map(_text, values)) if column.dtype == polars.Binary else values


def _text(value: bytes | None) -> object:
    """Decodes texts that a program wrote without saying that they are texts."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value


def _plain(name: str, kind: polars.DataType) -> polars.Expr:
    column = polars.col(name)
    if kind.base_type() in (polars.Date, polars.Datetime):
        return column.cast(polars.Datetime("us")).dt.epoch("us") / 1e6
    if kind.base_type() in (polars.Categorical, polars.Enum, polars.Decimal):
        return column.cast(polars.String)
    return column


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    try:
        with _silent():
            yield
    except (Exception, polars.exceptions.PanicException) as error:  # a damaged file raises nearly anything
        reason = str(error).strip().split("\n")[0]
        raise DataError(f"{path} is a damaged Parquet file ({reason}): fetch or write it again") from error


@contextmanager
def _silent() -> Iterator[None]:
    """Hides what polars' threads print when a damaged file makes them panic; the exception says it too."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - a device, not a path of ours
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
