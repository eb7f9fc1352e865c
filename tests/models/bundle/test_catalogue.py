from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_data import rows, save_picture, small_dataset

from models.bundle.catalogue import as_written, read_catalogue, read_manifest, write_catalogue
from models.contracts import BundleError, Item, sha256_of
from models.contracts.captions import Caption, read_captions, write_captions
from models.contracts.one_writer import BusyError, no_writer
from models.data.dataset import Dataset
from models.errors import DataError


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def one_item(image: str, photos: Path) -> Dataset:
    return Dataset("one", (Item("A", image=image),), ("u",), (rows(0),), images=photos)


def test_a_catalogue_comes_back_as_it_was_written(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "photos")
    write_catalogue(dataset, tmp_path / "bundle")
    back = read_catalogue(tmp_path / "bundle")
    assert [item.to_json() | {"image_sha256": None} for item in back.items] == [
        item.to_json() | {"image_sha256": None} for item in dataset.items
    ]
    assert (back.name, back.users, back.captions) == (dataset.name, dataset.users, dataset.captions)
    assert [h.tolist() for h in back.histories] == [h.tolist() for h in dataset.histories]
    assert all(history.dtype == np.int32 for history in back.histories)
    assert back.images == tmp_path / "bundle" / "catalogue" / "images"


def test_the_manifest_counts_the_data_and_hashes_every_file_but_captions(tmp_path: Path) -> None:
    manifest = write_catalogue(small_dataset(tmp_path / "photos"), tmp_path / "bundle")
    folder = tmp_path / "bundle" / "catalogue"
    assert (manifest.items, manifest.users, manifest.interactions) == (4, 3, 8)
    assert manifest.sha256 == {
        name: sha256_of(folder / name) for name in ("items.jsonl", "histories.npz", "popularity.npy")
    }
    assert read_manifest(tmp_path / "bundle") == manifest


def test_items_carry_the_digest_of_their_picture(tmp_path: Path) -> None:
    write_catalogue(small_dataset(tmp_path / "photos"), tmp_path / "bundle")
    back = read_catalogue(tmp_path / "bundle")
    assert back.items[0].image_sha256 == sha256_of(tmp_path / "photos" / "a.png")
    assert [item.image_sha256 for item in back.items[1:]] == [None, None, None]


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_catalogue(small_dataset(tmp_path / "photos"), tmp_path / name)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_popularity_is_written_for_every_item(tmp_path: Path) -> None:
    write_catalogue(small_dataset(), tmp_path)
    assert np.load(tmp_path / "catalogue" / "popularity.npy").tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("damage", ["no picture at all", "truncated", "empty", "a folder"])
def test_a_broken_picture_costs_its_item_the_picture_and_nothing_else(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = small_dataset(tmp_path / "photos")
    path = tmp_path / "photos" / "a.png"
    whole = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    else:
        path.write_bytes({"no picture at all": b"<html>", "truncated": whole[:50], "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        write_catalogue(dataset, tmp_path / "bundle")
    item = read_catalogue(tmp_path / "bundle").items[0]
    assert (item.title, item.image, item.image_sha256) == ("Ein schöner Krug", None, None)
    assert "a.png" in caplog.text


def test_a_png_with_a_jpg_name_is_a_picture(tmp_path: Path) -> None:
    save_picture(tmp_path / "photos" / "3575.jpg", form="PNG")
    dataset = one_item("3575.jpg", tmp_path / "photos")
    write_catalogue(dataset, tmp_path / "bundle")
    assert read_catalogue(tmp_path / "bundle").items[0].image == "3575.jpg"


def test_a_picture_in_a_format_that_browsers_do_not_show_is_left_out(tmp_path: Path) -> None:
    save_picture(tmp_path / "photos" / "a.tiff", form="TIFF")
    dataset = one_item("a.tiff", tmp_path / "photos")
    write_catalogue(dataset, tmp_path / "bundle")
    assert read_catalogue(tmp_path / "bundle").items[0].image is None


def test_another_catalogue_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    write_catalogue(small_dataset(), tmp_path)
    before = files(tmp_path)
    other = small_dataset(histories=(rows(0), rows(1), rows(2)))
    with pytest.raises(BundleError, match=r"another catalogue.*--replace"):
        write_catalogue(other, tmp_path)
    assert files(tmp_path) == before
    write_catalogue(other, tmp_path, replace_other=True)
    assert read_catalogue(tmp_path).interactions == 3


def test_writing_the_same_catalogue_again_changes_nothing(tmp_path: Path) -> None:
    write_catalogue(small_dataset(tmp_path / "photos"), tmp_path / "bundle")
    before = files(tmp_path / "bundle")
    write_catalogue(small_dataset(tmp_path / "photos"), tmp_path / "bundle")
    assert files(tmp_path / "bundle") == before


def test_captions_made_later_survive_a_replacement_where_the_picture_is_the_same(tmp_path: Path) -> None:
    two = (Item("A", image="a.png"), Item("B", image="b.png"))
    save_picture(tmp_path / "photos" / "b.png", (1, 2, 3))
    dataset = small_dataset(
        tmp_path / "photos", items=two, histories=(rows(0), rows(1), rows(0, 1)), captions={}
    )
    write_catalogue(dataset, tmp_path / "bundle")
    path = tmp_path / "bundle" / "catalogue" / "captions" / "gpt-4o.jsonl"
    paid = [Caption(item, "openai", "gpt-4o", "v1", f"about {item}") for item in "AB"]
    write_captions(path, paid)
    save_picture(tmp_path / "photos" / "b.png", (99, 2, 3))
    write_catalogue(dataset, tmp_path / "bundle", replace_other=True)
    assert list(read_captions(path).values()) == paid[:1]


def test_a_catalogue_into_which_captions_are_written_is_not_replaced(tmp_path: Path) -> None:
    first = small_dataset(tmp_path)
    write_catalogue(first, tmp_path / "bundle")
    before = files(tmp_path / "bundle")
    with no_writer(tmp_path / "bundle" / "catalogue"), pytest.raises(BusyError, match="catalogue"):
        write_catalogue(first, tmp_path / "bundle", replace_other=True)
    assert files(tmp_path / "bundle") == before


@pytest.mark.parametrize("name", ["items.jsonl", "histories.npz", "popularity.npy"])
def test_a_file_that_was_changed_or_removed_is_noticed(tmp_path: Path, name: str) -> None:
    write_catalogue(small_dataset(), tmp_path)
    path = tmp_path / "catalogue" / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BundleError, match=name):
        read_catalogue(tmp_path)
    path.unlink()
    with pytest.raises(BundleError, match=name):
        read_catalogue(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema_version": 99}', '{"schema_version": 1}'])
def test_a_damaged_manifest_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    write_catalogue(small_dataset(), tmp_path)
    (tmp_path / "catalogue" / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match="again"):
        read_catalogue(tmp_path)


def test_a_bundle_without_catalogue_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="python -m models data"):
        read_catalogue(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"users": ("u1", "u1", "u3")}, "'u1' is used twice"),
        ({"items": (Item("A"), Item("A"), Item("C"), Item("D"))}, "'A' is used twice"),
        ({"users": ("u1", "u2")}, "2 users and 3 histories"),
        ({"users": ("u1", "", "u3")}, "the user id '' is empty, so the service could not name it"),
        (
            {"items": (Item("A"), Item(".."), Item("C"), Item("D"))},
            r"the item id '\.\.' is a step between folders",
        ),
        ({"histories": (rows(0), rows(4), rows())}, "outside 0–3"),
        ({"histories": (rows(0), rows(-1), rows())}, "outside 0–3"),
        ({"items": (), "histories": (rows(), rows(), rows()), "captions": {}}, "no item"),
    ],
)
def test_data_that_contradict_themselves_are_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        write_catalogue(small_dataset(**changes), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_every_line_of_the_items_is_one_json_object(tmp_path: Path) -> None:
    write_catalogue(small_dataset(), tmp_path)
    lines = (tmp_path / "catalogue" / "items.jsonl").read_bytes().split(b"\n")
    assert [json.loads(line)["item_id"] for line in lines[:-1]] == ["A", "B", "C", "D"]


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", "\udcff"])
def test_a_name_that_no_bundle_can_hold_is_refused_before_anything_is_written(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="--name"):
        write_catalogue(replace(small_dataset(), name=name), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_catalogue_that_cannot_be_read_is_replaced_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "catalogue").mkdir()
    (tmp_path / "catalogue" / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="replace it with --replace"):
        write_catalogue(small_dataset(), tmp_path)
    write_catalogue(small_dataset(), tmp_path, replace_other=True)
    assert read_catalogue(tmp_path).name == small_dataset().name


def test_a_report_about_a_file_with_an_odd_name_can_be_read_again(tmp_path: Path) -> None:
    dataset = small_dataset()
    dataset.report.leave_out("items", "the id is missing", "b\udcff\x1b.csv, line 2")
    write_catalogue(dataset, tmp_path)
    (line,) = read_catalogue(tmp_path).report.to_json()["left_out"]
    assert line["first"] == "b??.csv, line 2"


def test_a_look_without_a_bundle_sees_the_same_pictures(tmp_path: Path) -> None:
    save_picture(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"none")
    for name in ("a.png", "b.png"):
        seen = as_written(one_item(name, tmp_path))
        write_catalogue(one_item(name, tmp_path), tmp_path / "bundle", replace_other=True)
        written = read_catalogue(tmp_path / "bundle")
        assert (seen.items, seen.report.lines()) == (written.items, written.report.lines())
