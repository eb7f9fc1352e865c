"""An entry of the data, whatever its shape, leads to the file that it means, or to the reason why to none."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from small_data import save_picture

from models.data.pictures import PictureFolder, find_pictures
from models.errors import DataError

NAMES = (
    "plain.jpg",
    "a/cover.jpg",
    "b/cover.jpg",
    "c/deep/only.png",
    "51+x+y.jpg",
    "51%2Bkept.jpg",
    "UPPER.JPG",
    unicodedata.normalize("NFD", "Krüge.jpg"),
    "B001.jpg",
    "v1.0.webp",
    "what?.png",
    "odd\\name.png",
    "x.jpg",
    "X.jpg",
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> PictureFolder:
    folder = tmp_path_factory.mktemp("data") / "photos"
    save_picture(folder / NAMES[0])
    for name in NAMES[1:]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((folder / "plain.jpg").read_bytes())
    (folder / "broken.jpg").write_bytes(b"<html>")
    (folder.parent / "secret.jpg").write_bytes(b"secret")
    (folder / "inside.jpg").symlink_to("plain.jpg")
    (folder / "outside.jpg").symlink_to(folder.parent / "secret.jpg")
    (folder / "nowhere.jpg").symlink_to("gone.jpg")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    return PictureFolder(folder)


@pytest.mark.parametrize(
    ("entry", "file"),
    [
        ("plain.jpg", "plain.jpg"),
        ("./plain.jpg", "plain.jpg"),
        (" plain.jpg\n", "plain.jpg"),
        (Path("plain.jpg"), "plain.jpg"),
        ("a/cover.jpg", "a/cover.jpg"),
        ("b/cover.jpg", "b/cover.jpg"),
        ("b\\cover.jpg", "b/cover.jpg"),
        ("B/Cover.JPG", "b/cover.jpg"),
        ("b/cover", "b/cover.jpg"),
        ("/srv/images/b/cover.jpg", "b/cover.jpg"),
        ("C:\\shop\\photos\\plain.jpg", "plain.jpg"),
        ("elsewhere/plain.jpg", "plain.jpg"),
        ("only.png", "c/deep/only.png"),
        ("file:///home/me/plain.jpg", "plain.jpg"),
        ("https://shop.example/I/51%2Bx%2By.jpg?width=90&v=2#top", "51+x+y.jpg"),
        ("https://shop.example/I/51%2Bkept.jpg", "51%2Bkept.jpg"),
        ("51%2Bx%2By.jpg", "51+x+y.jpg"),
        ("//shop.example/plain.jpg", "plain.jpg"),
        ("plain.jpg?v=3", "plain.jpg"),
        ("what?.png", "what?.png"),
        ("odd\\name.png", "odd\\name.png"),
        ("upper.jpg", "UPPER.JPG"),
        ("x.jpg", "x.jpg"),
        ("X.jpg", "X.jpg"),
        ("Krüge.jpg", NAMES[7]),
        ("KRÜGE.jpg", NAMES[7]),
        ("B001", "B001.jpg"),
        ("b001", "B001.jpg"),
        ("v1.0", "v1.0.webp"),
        ("../../plain.jpg", "plain.jpg"),
        ("a/../b/cover.jpg", "b/cover.jpg"),
        ("inside.jpg", "inside.jpg"),
        ({"image_path": "plain.jpg", "image_description": {}}, "plain.jpg"),
        *(({key: "plain.jpg"}, "plain.jpg") for key in ("path", "file", "filename", "name", "url", "src")),
        ({"thumb": "https://x.example/plain.jpg", "large": None, "variant": "MAIN"}, "plain.jpg"),
        ({"hi_res": ["gone.jpg", "B001.jpg"], "thumb": ["plain.jpg"]}, "B001.jpg"),
        ({"imageURLHighRes": ["plain.jpg"]}, "plain.jpg"),
        (["gone.jpg", "plain.jpg", "B001.jpg"], "plain.jpg"),
        (["broken.jpg", {"url": "plain.jpg"}], "plain.jpg"),
        (("broken.jpg",), "broken.jpg"),
    ],
)
def test_usual_shapes_lead_to_the_file(pictures: PictureFolder, entry: object, file: str) -> None:
    assert pictures.find(entry) == file
    assert pictures.problem(entry) is None


NOT_THERE = "their picture is not in the folder of pictures"
SEVERAL = "several pictures have the name, and the path does not say which"
WEB = "their picture is an address of the web and not in the folder of pictures"

ITSELF = "their picture stands in the data itself (data:), which is not read"


def nested(times: int) -> Any:
    return {"image": nested(times - 1)} if times else "plain.jpg"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (None, None),
        ("", None),
        ([], None),
        ([None, ""], None),
        ({}, None),
        ({"image_description": {"gpt4o": "A mug."}}, None),
        ({"thumb": None, "variant": "MAIN"}, None),
        ("gone.jpg", NOT_THERE),
        ("..", NOT_THERE),
        ("a/", NOT_THERE),
        ("plain.jpg\0", NOT_THERE),
        ("../secret.jpg", NOT_THERE),
        ("%2e%2e/secret.jpg", NOT_THERE),
        *((f"{name}.jpg", NOT_THERE) for name in ("outside", "nowhere", "circle", "folder", "pipe")),
        ("cover.jpg", SEVERAL),
        ("d/cover.jpg", SEVERAL),
        ("x", SEVERAL),
        ("x.JPG", SEVERAL),
        ("https://shop.example/I/gone.jpg", WEB),
        ("https://[half", WEB),
        (["https://shop.example/1.jpg", "http://shop.example/2.jpg"], WEB),
        (
            "data:image/png;base64,iVBORw0KGgo=",
            ITSELF,
        ),
        (7, "their picture is given in a form that is not read (a number)"),
        (True, "their picture is given in a form that is not read (true or false)"),
        ([7], "their picture is given in a form that is not read (a list)"),
        ({"picture of it": 7}, "their picture is given in a form that is not read (an object)"),
        (nested(20), "their picture is given in a form that is not read (an object)"),
    ],
)
def test_what_leads_to_no_file_has_a_reason_unless_it_names_none(
    pictures: PictureFolder, entry: object, reason: str | None
) -> None:
    assert pictures.find(entry) is None
    assert pictures.problem(entry) == reason


def test_a_path_whose_folders_are_not_there_means_the_file_in_the_folder_itself(tmp_path: Path) -> None:
    save_picture(tmp_path / "photos" / "cover.png")
    save_picture(tmp_path / "photos" / "b" / "cover.png")
    pictures = PictureFolder(tmp_path / "photos")
    assert pictures.find("cover.png") == pictures.find("/data/photos/cover.png") == "cover.png"
    assert pictures.find("a/cover.png") == "cover.png"
    assert pictures.find("b/cover.png") == "b/cover.png"


def test_without_a_folder_no_picture_is_found_and_the_reason_says_so() -> None:
    assert PictureFolder(None).find("plain.jpg") is None
    assert PictureFolder(None).problem("plain.jpg") == "there is no folder of pictures (--pictures names one)"


def test_the_folder_is_listed_once_and_not_before_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[object] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    pictures = PictureFolder(tmp_path)
    assert listed == []
    for name in ("a.jpg", "b.jpg", "c"):
        pictures.find(name)
    assert len(listed) == 1


def test_a_folder_of_pictures_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        find_pictures(tmp_path, "name", tmp_path / "nowhere")
