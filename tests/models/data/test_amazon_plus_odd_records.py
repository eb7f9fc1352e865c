from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.contracts import Item
from models.contracts.names import is_captioner_name
from models.data import amazon_plus, registry
from models.data.dataset import Dataset
from models.errors import DataError

Files = dict[str, Any]

USERS, ITEMS = 30, 40
HISTORIES = {str(u): [str((u * 7 + n * 11) % ITEMS + 1) for n in range(5)] for u in range(1, USERS + 1)}
TAKEN = {f"U{u}": [f"I{i}" for i in history] for u, history in HISTORIES.items()}


def good() -> Files:
    return {
        "id2user": {u: f"U{u}" for u in HISTORIES},
        "id2item": {str(i): f"I{i}" for i in range(1, ITEMS + 1)},
        "side": {str(i): {"asin": f"I{i}", "title": f"Item {i}"} for i in range(1, ITEMS + 1)},
        "lines": [" ".join([u, *history]) for u, history in HISTORIES.items()],
        "end": "\n",
    }


def write(folder: Path, files: Files) -> Path:
    folder.mkdir(exist_ok=True)
    maps = {key: value for key, value in files.items() if "2" in key}
    (folder / "datamaps.json").write_text(json.dumps(maps))
    (folder / "item2side.json").write_text(json.dumps(files["side"]))
    (folder / "sequential.txt").write_text("\n".join(files["lines"]) + files["end"], newline="")
    return folder


def taken(dataset: Dataset) -> dict[str, list[str]]:
    return {
        user: [dataset.items[row].item_id for row in history]
        for user, history in zip(dataset.users, dataset.histories, strict=True)
    }


def inverse(mapping: dict[str, str]) -> dict[str, str]:
    return {value: key for key, value in mapping.items()}


def counted(dataset: Dataset) -> list[str]:
    report = dataset.report.to_json()
    return [
        f"{label} {line['number']} {line['kind']}: {line['reason']}"
        for label, lines in (("left out", report["left_out"]), ("changed", report["changed"]))
        for line in lines
    ]


def put(key: str, value: Any) -> Callable[[Files], None]:
    return lambda files: files.update({key: value})


def lines(change: Callable[[str], str]) -> Callable[[Files], None]:
    return lambda files: files.update(lines=[change(line) for line in files["lines"]])


SAME: dict[str, tuple[Callable[[Files], None], list[str]]] = {
    "plain": (put("end", "\n"), []),
    "carriage returns": (lines(lambda line: line + "\r"), []),
    "ends of old Macs": (
        lambda files: files.update(lines=["\r".join(files["lines"])], end="\r"),
        [],
    ),
    "byte order mark": (lambda files: files["lines"].insert(0, "\ufeff"), []),
    "empty lines": (lambda files: files["lines"].insert(3, " "), []),
    "tabs": (lines(lambda line: line.replace(" ", "\t")), []),
    "commas": (
        lines(lambda line: line.replace(" ", ",")),
        ["changed 1 files: their words are separated by ','"],
    ),
    "lists": (
        lines(lambda line: line.replace(" ", ",[", 1).replace(" ", ", ") + "]"),
        ["changed 1 files: their words are separated by ','"],
    ),
    "numbers with a point": (lines(lambda line: line.replace(" ", ".0 ") + ".0"), []),
    "public ids": (
        lines(lambda line: f"U{line}".replace(" ", " I")),
        [],
    ),
    "no end": (
        put("end", ""),
        ["changed 1 files: their last line has no end, so its last id may be cut"],
    ),
    "a word cut": (
        put("end", " x"),
        ["changed 1 interactions: the last word of a file without an end is cut: left out"],
    ),
    "repeats": (
        lines(lambda line: f"{line} {line.split()[1]}"),
        ["changed 30 interactions: a user takes an item again: the first time is kept"],
    ),
    "a user twice": (
        lambda files: files["lines"].append("1 5"),
        [
            "left out 1 users: their id is that of an earlier user",
            "left out 1 interactions: their user is left out",
        ],
    ),
    "an unknown user": (
        lambda files: files["lines"].append("99 5 6"),
        [
            "left out 1 users: datamaps.json lacks them",
            "left out 2 interactions: datamaps.json lacks their user",
        ],
    ),
    "an unknown item": (
        lambda files: files["lines"].__setitem__(0, files["lines"][0] + " 77"),
        ["left out 1 interactions: datamaps.json lacks their item"],
    ),
    "a user with unknown items alone": (
        lambda files: (files["id2user"].update({"99": "U99"}), files["lines"].append("99 77")),
        [
            "left out 1 interactions: datamaps.json lacks their item",
            "left out 1 users: none of their items is left",
        ],
    ),
    "id2item inverted": (
        lambda files: files.update(id2item=inverse(files["id2item"])),
        ["changed 1 maps: id2item is from public to internal ids: it is inverted"],
    ),
    "id2user inverted": (
        lambda files: files.update(id2user=inverse(files["id2user"])),
        ["changed 1 maps: id2user is from public to internal ids: it is inverted"],
    ),
    "item2id alone": (
        lambda files: files.update(item2id=inverse(files.pop("id2item"))),
        ["changed 1 maps: id2item is not there: it is made of item2id"],
    ),
    "lists of ids": (
        lambda files: files.update({key: list(files[key].values()) for key in ("id2item", "id2user")}),
        [
            "changed 1 maps: id2item is a list: its entries are numbered from 1",
            "changed 1 maps: id2user is a list: its entries are numbered from 1",
        ],
    ),
    "lists of ids with a place for 0": (
        lambda files: files.update(id2item=[None, *files["id2item"].values()]),
        ["changed 1 maps: id2item is a list: its entries are numbered from 0"],
    ),
    "records in a list": (
        lambda files: files.update(side=list(files["side"].values())),
        ["changed 1 files: they are a list: asin says which item a record is about"],
    ),
    "records by public id": (
        lambda files: files.update(side={record["asin"]: record for record in files["side"].values()}),
        [],
    ),
    "a record of another item": (
        lambda files: files["side"].update({"900": {"asin": "I900"}}),
        ["left out 1 records of other items: datamaps.json has no such item"],
    ),
}


@pytest.mark.parametrize("kind", SAME)
def test_another_form_or_an_odd_record_leaves_the_data_as_they_are(tmp_path: Path, kind: str) -> None:
    change, expected = SAME[kind]
    files = good()
    change(files)
    dataset = registry.read(write(tmp_path / "d", files))
    assert taken(dataset) == TAKEN
    assert [item.title for item in dataset.items] == [f"Item {i}" for i in range(1, ITEMS + 1)]
    assert counted(dataset) == expected


def test_ids_may_be_numbers(tmp_path: Path) -> None:
    files = good()
    files["id2item"] = {i: int(i) for i in files["id2item"]}
    files["id2user"] = {u: float(u) for u in files["id2user"]}
    files["side"] = {i: {"asin": float(i), "title": "T"} for i in files["side"]}
    dataset = registry.read(write(tmp_path / "d", files))
    assert taken(dataset) == HISTORIES
    assert not dataset.report.lines()


def test_what_has_no_id_is_left_out_with_its_interactions(tmp_path: Path) -> None:
    files = good()
    files["id2item"]["3"] = None
    files["id2user"]["2"] = [["u"]]
    dataset = registry.read(write(tmp_path / "d", files))
    assert taken(dataset) == {
        user: [item for item in items if item != "I3"] for user, items in TAKEN.items() if user != "U2"
    }


@pytest.mark.parametrize(
    "record", [None, [], "text", {"asin": "OTHER", "title": "T"}], ids=["null", "list", "text", "other"]
)
def test_a_record_that_is_not_that_of_its_item_is_left_out(tmp_path: Path, record: object) -> None:
    files = good()
    files["side"]["1"] = record
    dataset = registry.read(write(tmp_path / "d", files))
    assert dataset.items[:2] == (Item("I1"), Item("I2", title="Item 2"))
    assert counted(dataset)[0].startswith("left out 1 item records: ")


@pytest.mark.parametrize("title", [float("nan"), "nan", ["a"], 3, {}])
def test_a_title_that_is_no_text_is_none(tmp_path: Path, title: object) -> None:
    files = good()
    files["side"]["1"]["title"] = title
    dataset = registry.read(write(tmp_path / "d", files))
    assert dataset.items[0] == Item("I1")
    assert counted(dataset) == ["changed 1 items: their title is no text: they have none"]


def test_of_equal_names_in_an_object_the_first_counts(tmp_path: Path) -> None:
    folder = write(tmp_path / "d", good())
    path = folder / "datamaps.json"
    path.write_text("\ufeff" + path.read_text().replace('"2": "I2"', '"2": "I2", "2": "I9"'))
    dataset = registry.read(folder)
    assert taken(dataset) == TAKEN
    assert counted(dataset) == [
        "left out 1 JSON entries: their name stands twice in one object: the first is read"
    ]


REFUSED: dict[str, tuple[Callable[[Files], None], str]] = {
    "no lines": (lambda files: files.update(lines=[]), r"sequential\.txt is empty"),
    "lines of other data": (
        lambda files: files.update(lines=[f"{line} 91 92 93 94 95 96" for line in files["lines"]]),
        r"sequential\.txt: 180 of 330 ids of items are not in",
    ),
    "records of other data": (
        lambda files: files.update(side={i: {"asin": f"J{i}"} for i in files["side"]}),
        "40 items have one id in",
    ),
    "no record of an item": (
        lambda files: files.update(side={"a": {}}),
        r"item2side\.json has no item of",
    ),
    "a list that may be numbered from 0 or 1": (
        lambda files: files.update(id2item=[f"I{i}" for i in range(60)], side={}),
        "nothing says whether its first entry is 0 or 1",
    ),
    "users without items": (
        lambda files: files.update(lines=list(HISTORIES)),
        "no user has an item",
    ),
    "many unknown items": (
        lambda files: files.update(lines=[f"{line} 77" for line in files["lines"]]),
        r"30 of 180 interactions would be left out, most because datamaps\.json lacks their item",
    ),
    "a captioner for each item": (
        lambda files: files.update(
            side={"1": {"image": {"image_description": {f"m{n}": "A tin." for n in range(65)}}}}
        ),
        "more than 64 captioners",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_makes_the_whole_meaningless_is_refused(tmp_path: Path, kind: str) -> None:
    change, message = REFUSED[kind]
    files = good()
    change(files)
    folder = write(tmp_path / "d", files)
    with pytest.raises(DataError, match=message):
        registry.read(folder)


def test_names_of_captioners_are_names_of_different_files(tmp_path: Path) -> None:
    files = good()
    names = ["a b", "a-b", "A/b", "", "..", "é" * 300]
    files["side"]["1"]["image"] = {"image_description": {name: f"by {name}" for name in names}}
    captions = amazon_plus.read(write(tmp_path / "d", files)).captions
    assert list(captions) == ["a-b", "a-b-2", "A-b-3", "captioner", "captioner-2", "captioner-3"]
    assert all(map(is_captioner_name, captions))
    assert captions["a-b-2"] == {0: "by a-b"}


def test_captions_that_are_no_text_are_counted(tmp_path: Path) -> None:
    files = good()
    for item, odd in enumerate(({"m": ["a"]}, {"m": None}, "a", None, ["a"]), 1):
        files["side"][str(item)]["image"] = {"image_description": odd}
    dataset = amazon_plus.read(write(tmp_path / "d", files))
    assert dataset.captions == {}
    assert [(line["number"], line["first"]) for line in dataset.report.to_json()["changed"]] == [
        (1, "item2side.json, item 1"),
        (2, "item2side.json, item 3"),
    ]
