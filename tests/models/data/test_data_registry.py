from __future__ import annotations

from pathlib import Path

import pytest
from small_data import write_amazon_plus
from test_amazon_original import grid, write

from models.data import registry
from models.errors import DataError


def test_both_layouts_are_recognised_by_their_files(tmp_path: Path) -> None:
    plus = write_amazon_plus(tmp_path / "plus", [["1", "2", "3"]])
    original = write(tmp_path / "original", grid())
    assert registry.read(plus).name == "plus"
    assert registry.read(original).name == "beauty"
    assert registry.read(original, name="given").name == "given"


def test_an_unknown_layout_lists_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "sequential.txt").touch()
    with pytest.raises(
        DataError, match=r"datamaps\.json, item2side\.json and sequential\.txt.*or reviews_X_5"
    ):
        registry.read(tmp_path)


def test_a_missing_folder_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is no folder"):
        registry.read(tmp_path / "nowhere")


def test_a_table_in_the_place_of_a_folder_is_told_its_option(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").touch()
    with pytest.raises(DataError, match=r"orders\.csv is no folder: .*`models data --interactions` reads"):
        registry.read(tmp_path / "orders.csv")
