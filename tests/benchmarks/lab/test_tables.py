from __future__ import annotations

import csv
import io

import pytest

from benchmarks.lab.tables import Table, dollars

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


def test_an_amount_says_that_it_is_simulated() -> None:
    assert dollars(0.0031, 4, simulated=True) == "0.0031 (simulated)"
    assert dollars(0.0031, 4, simulated=False) == "0.0031"
    assert dollars(None, 4, simulated=True) == "–"
