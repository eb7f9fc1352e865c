from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from test_mcauley import grid, histories, products

from models.data import mcauley, registry
from models.errors import DataError


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("reviews", "meta", "name"),
    [
        ("reviews_Video_Games_5.json", "meta_Video_Games.json", "video_games"),
        ("reviews_Video_Games.json", "meta_Video_Games.json", "video_games"),
        ("AMAZON_FASHION_5.json", "meta_AMAZON_FASHION.json", "amazon_fashion"),
        ("AMAZON_FASHION.json", "meta_AMAZON_FASHION.json", "amazon_fashion"),
        ("Toys.jsonl", "meta_Toys.jsonl", "toys"),
    ],
)
def test_the_names_of_each_collection_are_recognised(
    tmp_path: Path, reviews: str, meta: str, name: str, suffix: str
) -> None:
    pack = gzip.compress if suffix else bytes
    (tmp_path / f"{reviews}{suffix}").write_bytes(pack("\n".join(grid()).encode()))
    (tmp_path / f"{meta}{suffix}").write_bytes(pack("\n".join(products()).encode()))
    (tmp_path / "notes.json").write_text("{}")
    dataset = registry.read(tmp_path)
    assert (dataset.name, len(dataset.users), dataset.items[0].title) == (name, 5, "Title 0")


def test_the_collection_of_2023_has_parents_and_milliseconds(tmp_path: Path) -> None:
    reviews = [
        {"user_id": f"U{u}", "asin": f"C{u}{i}", "parent_asin": f"B{i}", "timestamp": 1_588_615_855_070 - i}
        for u in range(5)
        for i in range(5)
    ]
    meta = {
        "parent_asin": "B0",
        "title": "T",
        "main_category": "Toys",
        "categories": ["Toys", "Games"],
        "images": [],
    }
    (tmp_path / "Toys.jsonl").write_text("\n".join(map(json.dumps, reviews)))
    (tmp_path / "meta_Toys.jsonl").write_text("\n".join([json.dumps(meta), *products()[1:]]))
    dataset = registry.read(tmp_path)
    assert histories(dataset) == {f"U{u}": ["B4", "B3", "B2", "B1", "B0"] for u in range(5)}
    assert (dataset.items[4].title, dataset.items[4].categories) == ("T", ("Toys", "Games"))
    assert dataset.report.lines() == []


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (
            ["Toys.jsonl", "meta_Toys.jsonl", "Games.jsonl.gz", "meta_Games.jsonl.gz"],
            r"one file of reviews, reviews_X_5\.json\.gz, and has Games\.jsonl\.gz, Toys\.jsonl",
        ),
        (["Toys.json", "Toys_5.json", "meta_Toys.json"], r"has Toys\.json, Toys_5\.json"),
        (["reviews_Toys_5.json", "meta_A.json", "meta_B.json"], r"has meta_A\.json, meta_B\.json"),
    ],
)
def test_more_than_one_pair_is_refused_with_their_names(
    tmp_path: Path, names: list[str], sentence: str
) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=f"{sentence}: one folder for each data set"):
        registry.read(tmp_path)


@pytest.mark.parametrize("names", [["meta_Toys.json"], ["Toys.json"], ["Games.json", "meta_Toys.json"]])
def test_a_folder_without_a_pair_is_not_recognised(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "reviews_Toys_5.json" / "folder").mkdir(parents=True)
    assert not mcauley.recognises(tmp_path)
