from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_data import save_picture, write_amazon_plus

from models.contracts import Item
from models.data import amazon_plus
from models.errors import DataError

HISTORIES = [["1", "2", "3"], ["2"], []]
SIDE = {
    "1": {
        "asin": "P1",
        "title": "Burt&#39;s  Bees",
        "categories": ["Beauty", "Lips"],
        "image": {
            "image_path": "one.jpg",
            "image_description": {"gpt4o": "A tin &amp; a lid.", "claude3": ""},
        },
    },
    "2": {
        "keywords": "lip  balm",
        "image": {"image_path": "gone.jpg", "image_description": {"gpt4o": "A tube."}},
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_amazon_plus(tmp_path / "lips", HISTORIES, SIDE)


def test_items_users_and_histories_are_read(folder: Path) -> None:
    dataset = amazon_plus.read(folder)
    assert dataset.name == "lips"
    assert dataset.users == ("u1", "u2", "u3")
    assert [history.tolist() for history in dataset.histories] == [[0, 1, 2], [1], []]
    assert dataset.items == (
        Item("P1", title="Burt's Bees", categories=("Beauty", "Lips")),
        Item("P2", keywords="lip balm"),
        Item("P3"),
    )
    assert dataset.negatives is None


def test_captions_are_read_by_captioner_and_empty_ones_left_out(folder: Path) -> None:
    assert amazon_plus.read(folder).captions == {"gpt4o": {0: "A tin & a lid.", 1: "A tube."}}


def test_a_captioner_can_always_be_a_file_name(tmp_path: Path) -> None:
    side = {"1": {"image": {"image_description": {"../openai/gpt 4o": "A tin."}}}}
    captions = amazon_plus.read(write_amazon_plus(tmp_path / "d", [["1"]], side)).captions
    assert captions == {"openai-gpt-4o": {0: "A tin."}}


@pytest.mark.parametrize("where", ["lips/photos", "photos/lips", "elsewhere"])
def test_pictures_are_found_in_the_usual_places_or_where_one_says(folder: Path, where: str) -> None:
    photos = folder.parent / where
    save_picture(photos / "one.jpg", form="JPEG")
    dataset = amazon_plus.read(folder, pictures=photos if where == "elsewhere" else None)
    assert dataset.images == photos
    assert [item.image for item in dataset.items] == ["one.jpg", None, None]


def test_pictures_that_are_not_on_disk_are_counted(folder: Path) -> None:
    lines = amazon_plus.read(folder).report.lines()
    assert [line for _, line in lines if "picture" in line] == [
        "items: there is no folder of pictures (--pictures names one) (2, first: item2side.json, item 1)"
    ]


def test_a_photos_folder_that_was_asked_for_must_exist(folder: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        amazon_plus.read(folder, pictures=folder / "nowhere")


def test_a_picture_path_cannot_leave_the_photos_folder(tmp_path: Path) -> None:
    side = {"1": {"image": {"image_path": "../../secret.png"}}}
    folder = write_amazon_plus(tmp_path / "d", [["1"]], side)
    save_picture(folder / "photos" / "secret.png")
    assert amazon_plus.read(folder).items[0].image == "secret.png"


@pytest.mark.parametrize("name", ["datamaps.json", "item2side.json"])
@pytest.mark.parametrize("text", ["", "[1]", "{", "3", "\ud800", "[" * 100_000])
def test_a_damaged_json_file_is_named(folder: Path, name: str, text: str) -> None:
    (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=name):
        amazon_plus.read(folder)


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ({"id2user": {"1": "u"}}, "id2item must be"),
        ({"id2user": {}, "id2item": {"1": "P"}}, "id2user must be"),
        ({"id2user": {"1": "u"}, "id2item": {"1": None}}, "id2item holds no id"),
        ({"id2user": {"1": "u"}, "id2item": {"1": ["P"]}}, "id2item holds no id"),
        ({"id2user": {"1": " "}, "id2item": {"1": "P"}}, "id2user holds no id"),
        ({"id2user": {"1": "u"}, "id2item": 3}, "id2item must be"),
        ([], "must hold a JSON object"),
    ],
)
def test_id_maps_of_the_wrong_shape_are_refused(folder: Path, maps: object, message: str) -> None:
    (folder / "datamaps.json").write_text(json.dumps(maps))
    with pytest.raises(DataError, match=message):
        amazon_plus.read(folder)


@pytest.mark.parametrize("image", [None, [], "a.jpg", {"image_path": 3, "image_description": ["text"]}])
def test_an_odd_image_record_is_an_item_without_image(tmp_path: Path, image: object) -> None:
    folder = write_amazon_plus(tmp_path / "d", [["1"]], {"1": {"title": "T", "image": image}})
    dataset = amazon_plus.read(folder)
    assert (dataset.items, dataset.captions) == ((Item("P1", title="T"),), {})


def test_added_captions_are_read_back_beside_the_others(folder: Path) -> None:
    added = amazon_plus.with_captions(folder, {"sim": {"P1": "a tin", "P3": "a jar"}})
    (folder / "item2side.json").write_text(json.dumps(added))
    captions = amazon_plus.read(folder).captions
    assert captions == {"gpt4o": {0: "A tin & a lid.", 1: "A tube."}, "sim": {0: "a tin", 2: "a jar"}}


def test_captions_of_another_data_set_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="no item B0"):
        amazon_plus.with_captions(folder, {"sim": {"B0": "a tin"}})
