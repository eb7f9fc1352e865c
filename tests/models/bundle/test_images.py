"""Pictures of a data set become files of one flat folder, and what cannot be opened is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_data import rows, save_picture

from models.bundle.catalogue import read_catalogue, write_catalogue
from models.bundle.images import MAX_NAME, copy_images
from models.contracts import Item, sha256_of
from models.data.dataset import Dataset
from models.errors import WriteError


def copied(folder: Path, *names: str) -> tuple[list[str | None], Dataset]:
    """Copies the pictures of items, one each, to ``out`` beside their folder; returns their new names."""
    items = tuple(Item(f"I{n}", image=name) for n, name in enumerate(names))
    dataset = Dataset("some", items, ("u",), (rows(0),), images=folder)
    after = copy_images(dataset, folder.parent / "out")
    for item in after:
        if item.image:
            assert sha256_of(folder.parent / "out" / item.image) == item.image_sha256
    return [item.image for item in after], dataset


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    save_picture(tmp_path / "photos" / "red.png")
    save_picture(tmp_path / "photos" / "a" / "cover.png", (1, 2, 3))
    save_picture(tmp_path / "photos" / "b" / "cover.png", (3, 2, 1))
    return tmp_path / "photos"


def test_a_name_that_is_safe_and_unique_is_kept(photos: Path) -> None:
    odd = "name with space ü%2B: why?.jpg"
    save_picture(photos / odd)
    assert copied(photos, "red.png", odd, "a/cover.png")[0] == ["red.png", odd, "cover.png"]


def test_pictures_of_two_folders_with_one_name_get_names_of_their_own(photos: Path) -> None:
    names, _ = copied(photos, "a/cover.png", "b/cover.png")
    assert names == [f"cover-{sha256_of(photos / d / 'cover.png')[:12]}.png" for d in "ab"]


def test_items_with_one_picture_share_its_file(photos: Path) -> None:
    names, _ = copied(photos, "red.png", "red.png")
    assert names == ["red.png", "red.png"]
    assert len(list((photos.parent / "out").iterdir())) == 1


@pytest.mark.parametrize(
    "name", [f"{'x' * 210}.png", f"{'ü' * 120}.png", "new\nline.png", "back\\slash.png", "\udcff.png"]
)
def test_a_name_that_other_systems_refuse_is_made_safe(photos: Path, name: str) -> None:
    save_picture(photos / name)
    ((made,), _) = copied(photos, name)
    assert made is not None
    assert made.isprintable()
    assert len(made.encode()) <= MAX_NAME
    assert made.endswith(".png")
    assert "\\" not in made


def test_pictures_that_cannot_be_opened_are_counted_with_the_first_of_them(photos: Path) -> None:
    (photos / "page.jpg").write_bytes(b"<html>")
    (photos / "empty.jpg").write_bytes(b"")
    names, dataset = copied(photos, "page.jpg", "red.png", "page.jpg", "empty.jpg", "absent.jpg")
    assert names == [None, "red.png", None, None, None]
    ((label, line),) = dataset.report.lines()
    assert label == "changed"
    assert line.startswith("items: their picture cannot be opened: they have none (4, first: page.jpg (it is")


def test_the_manifest_counts_what_could_not_be_opened(photos: Path) -> None:
    (photos / "page.jpg").write_bytes(b"<html>")
    dataset = Dataset("some", (Item("A", image="page.jpg"),), ("u",), (rows(0),), images=photos)
    write_catalogue(dataset, photos.parent / "bundle")
    assert "cannot be opened" in read_catalogue(photos.parent / "bundle").report.lines()[0][1]


def test_a_full_disk_leaves_no_half_of_a_catalogue(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    dataset = Dataset("some", (Item("A", image="red.png"),), ("u",), (rows(0),), images=photos)
    with pytest.raises(WriteError, match="the disk is full"):
        write_catalogue(dataset, photos.parent / "bundle")
    assert not list(photos.parent.glob("bundle/*"))
