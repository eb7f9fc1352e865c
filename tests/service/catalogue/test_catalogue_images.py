"""Tests that pictures come from the images folder alone, and that nothing odd in it is read or waited for."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from models.contracts import Item
from models.contracts.picture import MAX_BYTES
from service.catalogue.images import ItemImages


def item(name: str, content: bytes | None = None) -> Item:
    digest = None if content is None else hashlib.sha256(content).hexdigest()
    return Item("I1", image=name, image_sha256=digest)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "images"
    made.mkdir()
    (made / "one.png").write_bytes(b"a picture")
    (tmp_path / "secret").write_bytes(b"a secret")
    return made


def test_an_image_is_read_and_checked_against_its_digest(folder: Path) -> None:
    found = ItemImages(folder)
    assert found.read(item("one.png")) == found.read(item("one.png", b"a picture")) == b"a picture"
    (folder / "one.png").write_bytes(b"another picture")
    assert found.read(item("one.png", b"a picture")) is None
    assert found.read(Item("I1")) is None


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))


ODD: dict[str, Callable[[Path], object]] = {
    "link": lambda path: path.symlink_to("../secret"),
    "link to a picture": lambda path: path.symlink_to("one.png"),
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "pipe": os.mkfifo,  # to open one waits for a writer
    "socket": bound,
    "folder": Path.mkdir,
    "empty name": lambda _: None,
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_regular_file_is_not_read(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)  # the path of a socket may be too long otherwise
    ODD[kind](Path("odd.png"))
    assert ItemImages(folder).read(item("odd.png")) is None


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "..", ".", "a/one.png", "x" * 5000, "\0", "\ud800", ""]
)
def test_a_name_that_no_file_of_the_folder_has_is_not_read(folder: Path, name: str) -> None:
    assert ItemImages(folder).read(item(name)) is None


def test_a_large_file_is_not_read(folder: Path) -> None:
    with (folder / "one.png").open("r+b") as file:
        file.truncate(MAX_BYTES + 1)
    assert ItemImages(folder).read(item("one.png")) is None


def test_a_folder_that_is_a_link_or_is_not_there_shows_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(folder)
    assert ItemImages(tmp_path / "linked").read(item("one.png")) is None
    assert ItemImages(tmp_path / "nothing").read(item("one.png")) is None


def test_the_folder_that_was_opened_is_the_one_that_is_read(folder: Path, tmp_path: Path) -> None:
    found = ItemImages(folder)
    folder.rename(tmp_path / "before")
    folder.mkdir()
    assert found.read(item("one.png")) == b"a picture"


def test_the_log_names_an_image_that_is_not_shown_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = ItemImages(folder)
    with caplog.at_level(logging.WARNING):
        for name in ["gone.png"] * 3 + ["one.png"]:
            found.read(item(name, b""))
    assert caplog.messages == ["the image of item 'I1' is not shown: No such file or directory"]
