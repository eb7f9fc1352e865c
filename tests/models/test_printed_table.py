from __future__ import annotations

import csv
import io

import pytest

from models.printed_table import Table

TABLE = Table(("name", "value"), (("a|b", "1.5"), ("long, name", "12")))


def test_markdown_aligns_columns_and_escapes_pipes() -> None:
    assert TABLE.markdown().splitlines() == [
        "| name       | value |",
        "| ---------- | ----: |",
        "| a\\|b       |   1.5 |",
        "| long, name |    12 |",
    ]


def test_csv_reads_back_as_what_was_put_in() -> None:
    rows = list(csv.reader(io.StringIO(TABLE.csv())))
    assert rows == [["name", "value"], ["a|b", "1.5"], ["long, name", "12"]]


def test_a_row_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells under 2 headings"):
        Table(("a", "b"), (("x",),))
