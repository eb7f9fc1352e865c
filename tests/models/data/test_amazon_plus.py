from __future__ import annotations

import json
import pickle
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
    assert captions == {"..-openai-gpt-4o": {0: "A tin."}}


@pytest.mark.parametrize("where", ["lips/photos", "photos/lips", "elsewhere"])
def test_pictures_are_found_in_the_usual_places_or_where_one_says(folder: Path, where: str) -> None:
    photos = folder.parent / where
    save_picture(photos / "one.jpg", form="JPEG")
    dataset = amazon_plus.read(folder, photos=photos if where == "elsewhere" else None)
    assert dataset.images == photos
    assert [item.image for item in dataset.items] == ["one.jpg", None, None]


def test_pictures_that_are_not_on_disk_are_counted(folder: Path) -> None:
    report = amazon_plus.read(folder).report
    assert [line for line in report.lines() if "2 items: there is no folder of pictures" in line[1]]


def test_a_photos_folder_that_was_asked_for_must_exist(folder: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        amazon_plus.read(folder, photos=folder / "nowhere")


def test_a_picture_path_cannot_leave_the_photos_folder(tmp_path: Path) -> None:
    side = {"1": {"image": {"image_path": "../../secret.png"}}}
    folder = write_amazon_plus(tmp_path / "d", [["1"]], side)
    save_picture(folder / "photos" / "secret.png")
    assert amazon_plus.read(folder).items[0].image == "secret.png"


@pytest.mark.parametrize("as_numbers", [False, True])
def test_a_pickle_that_repeats_the_histories_is_accepted(folder: Path, as_numbers: bool) -> None:
    history = [[int(item) for item in items] for items in HISTORIES] if as_numbers else HISTORIES
    (folder / "purchase_history.pkl").write_bytes(pickle.dumps(history))
    assert amazon_plus.read(folder).interactions == 4


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        ([["1", "2", "2"], ["2"], []], "disagree about user 1 from item 3"),
        ([["1", "2", "3"], ["2", "1"], []], "disagree about user 2 from item 2"),
        ([["1", "2", "3"], ["9"], []], "disagree about user 2 from item 1"),
        ([["1", "2", "3"], ["2"]], "has 2 users and sequential.txt has 3"),
        ({"1": ["1"]}, "list of lists"),
        ([1, 2, 3], "list of lists"),
    ],
)
def test_a_pickle_that_contradicts_the_histories_is_refused(
    folder: Path, pickled: object, message: str
) -> None:
    (folder / "purchase_history.pkl").write_bytes(pickle.dumps(pickled))
    with pytest.raises(DataError, match=message):
        amazon_plus.read(folder)


@pytest.mark.parametrize("users", [("u1", "u2"), ("1", "2")])
def test_negatives_hold_public_item_ids_and_either_kind_of_user_id(
    folder: Path, users: tuple[str, str]
) -> None:
    (folder / "negative_samples.txt").write_text(f"{users[1]} P3 P1\n{users[0]} P2\n")
    negatives = amazon_plus.read(folder).negatives
    assert negatives is not None
    assert {user: rows.tolist() for user, rows in negatives.items()} == {1: [2, 0], 0: [1]}


@pytest.mark.parametrize(
    ("line", "message"), [("u9 P1", "user u9 has no history"), ("u1 P1 3", "item 3 is not in")]
)
def test_negatives_of_unknown_users_or_items_are_named(folder: Path, line: str, message: str) -> None:
    (folder / "negative_samples.txt").write_text(line + "\n")
    with pytest.raises(DataError, match=f"line 1: {message}"):
        amazon_plus.read(folder)


@pytest.mark.parametrize(
    ("line", "message"),
    [("4 1", "line 4: user 4 is not in"), ("1 2", "line 4: user 1 has a line already"), ("", None)],
)
def test_a_wrong_line_of_the_histories_is_named(folder: Path, line: str, message: str | None) -> None:
    with (folder / "sequential.txt").open("a") as stream:
        stream.write(f"{line}\n")
    if message is None:
        assert amazon_plus.read(folder).interactions == 4
    else:
        with pytest.raises(DataError, match=message):
            amazon_plus.read(folder)


def test_an_unknown_item_in_a_history_is_named(folder: Path) -> None:
    (folder / "sequential.txt").write_text("1 1 77\n")
    with pytest.raises(DataError, match="line 1: item 77 is not in"):
        amazon_plus.read(folder)


@pytest.mark.parametrize("name", ["datamaps.json", "item2side.json"])
@pytest.mark.parametrize("text", ["", "[]", "{", "3", "\ud800", "[" * 100_000])
def test_a_damaged_json_file_is_named(folder: Path, name: str, text: str) -> None:
    (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=name):
        amazon_plus.read(folder)


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ({"id2user": {"1": "u"}}, "id2item must be"),
        ({"id2user": {}, "id2item": {"1": "P"}}, "id2user must be"),
        ({"id2user": {"1": "u", "2": "u"}, "id2item": {"1": "P"}}, "'u' to more than one"),
        ({"id2user": {"1": "u"}, "id2item": {"1": None}}, "None, which is no id"),
        ({"id2user": {"1": "u"}, "id2item": {"1": ["P"]}}, "which is no id"),
        ({"id2user": {"1": " "}, "id2item": {"1": "P"}}, "which is no id"),
    ],
)
def test_id_maps_of_the_wrong_shape_are_refused(folder: Path, maps: object, message: str) -> None:
    (folder / "datamaps.json").write_text(json.dumps(maps))
    with pytest.raises(DataError, match=message):
        amazon_plus.read(folder)


def test_an_item_with_two_public_ids_is_refused(folder: Path) -> None:
    (folder / "item2side.json").write_text('{"1": {"asin": "OTHER"}}')
    with pytest.raises(DataError, match=r"item 1 is P1 in datamaps\.json and OTHER"):
        amazon_plus.read(folder)


@pytest.mark.parametrize("record", [None, [], "text", 3])
def test_an_item_record_that_is_no_object_is_refused(folder: Path, record: object) -> None:
    (folder / "item2side.json").write_text(json.dumps({"1": record}))
    with pytest.raises(DataError, match="item 1 must be an object"):
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
