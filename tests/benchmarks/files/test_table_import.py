from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.files.table_import import write_shop
from models.data.tables.shop import ShopFiles, read_shop


def test_the_shop_that_is_imported_has_nothing_to_leave_out(tmp_path: Path) -> None:
    write_shop(tmp_path, orders=300, users=20, items=40)
    dataset = read_shop(ShopFiles(tmp_path / "orders.csv", tmp_path / "products.csv")).dataset
    assert (len(dataset.users), len(dataset.items)) == (20, 40)
    assert dataset.items[7].title == 'Screen 7", black, no. 7'
    assert dataset.report.to_json()["left_out"] == []


@pytest.mark.slow
def test_the_page_tells_seconds_and_memory_of_each_import(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["import", "--orders", "500", "--users", "50", "--items", "40", "--rounds", "2"]) == 0
    page = capsys.readouterr().out
    assert "500 orders of 50 users and 40 items" in page
    assert page.count(", met\n") == 2
