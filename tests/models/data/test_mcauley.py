from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from small_data import save_picture

from models.data import mcauley
from models.data.dataset import Dataset
from models.errors import DataError

DAY = 86_400


def review(user: str, item: str, day: int) -> str:
    return json.dumps(
        {"reviewerID": user, "asin": item, "unixReviewTime": day * DAY, "reviewText": "It's fine."}
    )


def grid(users: int = 5, items: int = 5) -> list[str]:
    """All users review all items, one a day."""
    return [review(f"U{u}", f"B{i}", day=i) for u in range(users) for i in range(items)]


def products(items: int = 5) -> list[str]:
    """A product for each item of the grid."""
    return [json.dumps({"asin": f"B{i}", "title": f"Title {i}"}) for i in range(items)]


def histories(dataset: Dataset) -> dict[str, list[str]]:
    """Item ids by user id."""
    return {
        user: [dataset.items[row].item_id for row in history]
        for user, history in zip(dataset.users, dataset.histories, strict=True)
    }


def left_out(dataset: Dataset) -> dict[str, tuple[int, str]]:
    """Number and place of what was left out, by reason."""
    return {line["reason"]: (line["number"], line["first"]) for line in dataset.report.to_json()["left_out"]}


def changed(dataset: Dataset) -> dict[str, tuple[int, str]]:
    """Number and place of what was changed, by reason."""
    return {line["reason"]: (line["number"], line["first"]) for line in dataset.report.to_json()["changed"]}


def write(folder: Path, reviews: Sequence[str], meta: Sequence[str] = (), name: str = "Beauty_5") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for path, lines in (
        (folder / f"reviews_{name}.json.gz", reviews),
        (folder / f"meta_{name.removesuffix('_5')}.json.gz", meta),
    ):
        with gzip.open(path, "wt", encoding="utf-8") as stream:
            stream.writelines(line + "\n" for line in lines)
    return folder


def test_histories_are_in_order_of_time(tmp_path: Path) -> None:
    dataset = mcauley.read(write(tmp_path, grid()[::-1]))
    ids = [[dataset.items[row].item_id for row in history] for history in dataset.histories]
    assert ids == [["B0", "B1", "B2", "B3", "B4"]] * 5
    assert dataset.name == "beauty"


def test_ties_keep_the_order_of_the_file(tmp_path: Path) -> None:
    lines = [review(f"U{u}", f"B{i}", day=0) for u in range(5) for i in (3, 0, 4, 1, 2)]
    dataset = mcauley.read(write(tmp_path, lines))
    assert [dataset.items[row].item_id for row in dataset.histories[0]] == ["B3", "B0", "B4", "B1", "B2"]


def test_rare_users_and_items_are_left_out_until_all_are_frequent(tmp_path: Path) -> None:
    rare = [review("U9", f"B{i}", 9) for i in range(4)] + [review(f"U{u}", "RARE", 9) for u in range(4)]
    dataset = mcauley.read(write(tmp_path, grid() + rare, name="Beauty"))
    assert sorted(dataset.users) == [f"U{u}" for u in range(5)]
    assert sorted(item.item_id for item in dataset.items) == [f"B{i}" for i in range(5)]


def test_a_repeated_review_counts_once_and_the_first_one_stays(tmp_path: Path) -> None:
    dataset = mcauley.read(write(tmp_path, [*grid(), review("U0", "B0", 99)], products()))
    assert [history.tolist() for history in dataset.histories] == [[0, 1, 2, 3, 4]] * 5
    assert changed(dataset) == {
        "a user reviews an item again: the first one is kept": (1, "reviews_Beauty_5.json.gz, line 26")
    }


def test_a_repeated_review_does_not_lift_an_item_into_the_core(tmp_path: Path) -> None:
    four = [review(f"U{u}", "FOUR", 9) for u in (0, 1, 2, 3, 3)]
    items = mcauley.read(write(tmp_path, grid() + four)).items
    assert "FOUR" not in {item.item_id for item in items}


def test_products_are_python_literals_or_json(tmp_path: Path) -> None:
    meta = [
        "{'asin': 'B0', 'title': 'Burt&#39;s \"Bees\"', 'categories': [['Beauty', 'Lips'], ['Other']],"
        " 'imUrl': 'http://example.com/images/I/41x._SY300_.jpg', 'price': 9.5, 'related': {}}",
        json.dumps({"asin": "B1", "title": "JSON ü \u2028", "categories": []}),
        r"{'asin': 'B2', 'description': 'an odd \_ backslash'}",
        "{'asin': 'ELSEWHERE', 'title': 'not in the core'}",
    ]
    save_picture(tmp_path / "photos" / "41x._SY300_.jpg", form="JPEG")
    items = {item.item_id: item for item in mcauley.read(write(tmp_path, grid(), meta)).items}
    assert set(items) == {f"B{i}" for i in range(5)}
    assert (items["B0"].title, items["B0"].categories) == ('Burt\'s "Bees"', ("Beauty", "Lips"))
    assert items["B0"].image == "41x._SY300_.jpg"
    assert (items["B1"].title, items["B2"].title) == ("JSON ü", None)


def test_items_without_a_product_line_are_counted(tmp_path: Path) -> None:
    dataset = mcauley.read(write(tmp_path, grid(), ["{'asin': 'B0', 'title': 'T'}"]))
    assert [item.name for item in dataset.items] == ["T", "B1", "B2", "B3", "B4"]
    assert changed(dataset) == {
        "they are not in meta_Beauty.json.gz and have no title": (4, "reviews_Beauty_5.json.gz, line 2")
    }


@pytest.mark.parametrize("reviews", [[], ["", "  "], grid(4, 5), grid(5, 4)])
def test_nothing_left_after_filtering_is_an_error(tmp_path: Path, reviews: list[str]) -> None:
    with pytest.raises(DataError, match="nothing is left"):
        mcauley.read(write(tmp_path, reviews))


def test_a_download_that_was_cut_off_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, grid()) / "reviews_Beauty_5.json.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="fetch it again"):
        mcauley.read(tmp_path)


def test_a_web_page_instead_of_the_file_is_named(tmp_path: Path) -> None:
    (write(tmp_path, grid()) / "reviews_Beauty_5.json.gz").write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match="fetch it again"):
        mcauley.read(tmp_path)


def test_unpacked_files_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "reviews_Video_Games_5.json").write_text("\n".join(grid()))
    (tmp_path / "meta_Video_Games.json").write_text("{'asin': 'B0', 'title': 'Chess'}")
    dataset = mcauley.read(tmp_path)
    assert (dataset.name, dataset.items[0].title) == ("video_games", "Chess")


def test_two_data_sets_in_one_folder_are_refused(tmp_path: Path) -> None:
    write(tmp_path, grid(), name="Toys_5")
    with pytest.raises(DataError, match=r"reviews_Beauty_5\.json\.gz, reviews_Toys_5\.json\.gz"):
        mcauley.read(write(tmp_path, grid()))


def test_reviews_that_are_not_in_the_5_core_are_counted(tmp_path: Path) -> None:
    dataset = mcauley.read(write(tmp_path, [review("rare", "B0", 1), *grid(), review("U0", "rare", 9)]))
    (skipped,) = dataset.report.to_json()["skipped"]
    assert (skipped["reason"], skipped["number"]) == ("they are not in the 5-core", 2)
    assert skipped["first"] == "reviews_Beauty_5.json.gz, line 1"
