"""Picks the reader of a table by the contents of its file."""

from __future__ import annotations

from pathlib import Path

from models.data.tables.contents import PARQUET, check_packed, starts_with
from models.data.tables.delimited import DelimitedTable
from models.data.tables.json_records import JsonTable, looks_like_json
from models.data.tables.table import Table


def open_table(path: Path) -> Table:
    """Opens a table: CSV with any of the usual delimiters, JSON Lines, a JSON array, Parquet, or RecBole's.

    Raises:
        DataError: the file is missing, no table, or cannot be unpacked.
    """
    if starts_with(path, PARQUET):
        from models.data.tables.parquet import ParquetTable  # polars is an extra, which text does without

        return ParquetTable(path)
    check_packed(path)
    return JsonTable(path) if looks_like_json(path) else DelimitedTable(path)
