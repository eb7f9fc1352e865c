from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from small_data import save_picture
from test_amazon_original import changed, grid, left_out, products, write

from models.contracts import Item
from models.data import amazon
from models.data.dataset import Dataset
from models.errors import DataError

META = "meta_Beauty.json.gz"


def read(folder: Path, *first: dict[str, Any]) -> Dataset:
    """Reads the grid, and what its first item's records say."""
    return amazon.read(write(folder, grid(), [*map(json.dumps, first), *products()[1:]]))


@pytest.mark.parametrize(
    "fields",
    [
        {"categories": [["Toys", "Games"], ["Other"]]},
        {"categories": ["Toys", "Games"]},
        {"category": ["Toys", "Games"]},
        {"categories": [], "category": [["Toys", "Games"]]},
        {"categories": "", "main_category": "Toys &amp; Games"},
    ],
)
def test_categories_are_read_nested_flat_or_alone(tmp_path: Path, fields: dict[str, Any]) -> None:
    assert " & ".join(read(tmp_path, {"asin": "B0", **fields}).items[0].categories) == "Toys & Games"


@pytest.mark.parametrize("field", ["imUrl", "imageURLHighRes", "imageURL", "images"])
def test_a_picture_is_found_in_the_field_of_each_collection(tmp_path: Path, field: str) -> None:
    save_picture(tmp_path / "photos" / "p0.png")
    assert read(tmp_path, {"asin": "B0", field: "http://x/I/p0.png"}).items[0].image == "p0.png"


def test_records_of_one_product_are_merged(tmp_path: Path) -> None:
    save_picture(tmp_path / "photos" / "p0.png")
    dataset = read(
        tmp_path,
        {"asin": "B0", "title": "", "categories": [["Toys"]], "imUrl": "http://x/gone.png"},
        {"asin": "B0", "title": "First", "categories": [["Other"]], "imUrl": "http://x/p0.png"},
        {"asin": "B0", "title": "Second", "imUrl": None},
    )
    assert dataset.items[0] == Item("B0", title="First", categories=("Toys",), image="p0.png")
    assert changed(dataset) == {"an earlier record has their asin: they are merged": (2, f"{META}, line 2")}


@pytest.mark.parametrize("title", [None, math.nan, "", "  "])
def test_a_missing_title_is_none(tmp_path: Path, title: object) -> None:
    dataset = read(tmp_path, {"asin": "B0", "title": title})
    assert dataset.items[0].title is None
    assert changed(dataset) == {}


@pytest.mark.parametrize("title", [7, True, ["A list"], {"en": "An object"}])
def test_a_title_of_another_type_is_none_and_counted(tmp_path: Path, title: object) -> None:
    dataset = read(tmp_path, {"asin": "B0", "title": title})
    assert dataset.items[0].title is None
    assert changed(dataset) == {"their title is no text: they have none": (1, f"{META}, line 1")}


def test_markup_is_removed_and_counted(tmp_path: Path) -> None:
    dataset = read(tmp_path, {"asin": "B0", "title": "<b>Bold</b>", "categories": [["<i>Toys</i>"]]})
    assert (dataset.items[0].title, dataset.items[0].categories) == ("Bold", ("Toys",))
    assert list(changed(dataset).values()) == [(2, f"{META}, line 1")]


def test_the_literal_nan_is_a_missing_value(tmp_path: Path) -> None:
    meta = [
        "{'asin': 'B0', 'title': nan, 'categories': [['Toys', nan]], 'price': NaN, 'x': null}",
        *products()[1:],
    ]
    dataset = amazon.read(write(tmp_path, grid(), meta))
    assert dataset.items[0] == Item("B0", categories=("Toys",))
    assert left_out(dataset) == {}


@pytest.mark.parametrize("line", ["[1]", "{'title': 'no asin'}", "{'asin': None}", "{'asin': '"])
def test_a_product_that_is_no_record_or_has_no_asin_is_left_out(tmp_path: Path, line: str) -> None:
    dataset = amazon.read(write(tmp_path, grid(), [*products(), line]))
    assert [item.title for item in dataset.items] == [f"Title {i}" for i in range(5)]
    assert [place for _, place in left_out(dataset).values()] == [f"{META}, line 6"]


def test_items_whose_picture_is_not_there_are_counted(tmp_path: Path) -> None:
    dataset = read(tmp_path / "without", {"asin": "B0", "imUrl": "http://x/p0.png"})
    assert changed(dataset) == {
        "there is no folder of pictures (--pictures names one)": (1, f"{META}, line 1")
    }
    save_picture(tmp_path / "with" / "photos" / "other.png")
    dataset = read(tmp_path / "with", {"asin": "B0", "imUrl": "http://x/p0.png"})
    assert changed(dataset) == {
        "their picture is an address of the web and not in the folder of pictures": (1, f"{META}, line 1")
    }


def test_products_of_other_data_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, grid(), [json.dumps({"asin": "elsewhere"})])
    with pytest.raises(DataError, match="has none of the items of reviews_Beauty_5"):
        amazon.read(folder)
