"""Item images become thumbnails, and thumbnails the pictures of a prompt."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw

from service.catalogue.bundle import Catalogue, open_bundle
from service.catalogue.images import ItemImages
from service.lvlm.contracts import ImageMode
from service.lvlm.prompt import history_picture
from service.lvlm.prompt.item_pictures import Pictures
from service.lvlm.prompt.thumbnails import ThumbnailCache, UnreadableImageError, open_thumbnail
from service.lvlm.providers.base import Image

RED, BLUE, WHITE = (200, 30, 30), (40, 60, 200), (255, 255, 255)


def decode(image: Image) -> Pillow.Image:
    picture = Pillow.open(io.BytesIO(image.data))
    assert picture.format == "JPEG"
    assert picture.size == (image.width, image.height)
    return picture


def near(found: object, expected: tuple[int, int, int], tolerance: int = 12) -> bool:
    return bool(np.abs(np.subtract(found, expected)).max() <= tolerance)


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (128, 128)) -> Pillow.Image:
    return Pillow.new("RGB", size, colour)


# --- the montage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "size"),
    [(1, (128, 128)), (2, (256, 128)), (4, (256, 256)), (5, (384, 256)), (9, (384, 384)), (10, (512, 384))],
)
def test_a_grid_has_as_many_cells_as_it_needs(items: int, size: tuple[int, int]) -> None:
    (image,) = history_picture.compose([plain(RED)] * items, "grid")
    assert (image.width, image.height) == size


def test_a_grid_fills_row_by_row_oldest_first() -> None:
    colours = [(25 * n, 255 - 25 * n, 128) for n in range(10)]
    (image,) = history_picture.compose([plain(colour) for colour in colours], "grid")
    picture = decode(image)
    for position, colour in enumerate(colours):
        centre = (position % 4 * 128 + 64, position // 4 * 128 + 64)
        assert near(picture.getpixel(centre), colour)
    assert near(picture.getpixel((3 * 128 + 64, 2 * 128 + 64)), WHITE)  # the twelfth cell is empty


def test_every_cell_carries_its_own_number() -> None:
    (image,) = history_picture.compose([plain(BLUE)] * 10, "grid")
    pixels = np.asarray(decode(image).convert("L"), dtype=int)
    corners = [pixels[r : r + 30, c : c + 30] for r in (0, 128, 256) for c in (0, 128, 256, 384)][:10]
    for corner in corners:
        assert corner.max() > 200  # light ink …
        assert (corner < 25).mean() > 0.2  # … on a dark badge
    assert all(np.abs(one - two).mean() > 2 for i, one in enumerate(corners) for two in corners[:i])


def test_a_thumbnail_keeps_its_shape_in_the_middle_of_its_cell() -> None:
    (image,) = history_picture.compose([plain(RED, (64, 128)), plain(RED, (128, 64))], "grid")
    picture = decode(image)
    assert near(picture.getpixel((64, 100)), RED)
    assert near(picture.getpixel((110, 100)), WHITE)
    assert near(picture.getpixel((128 + 110, 64)), RED)
    assert near(picture.getpixel((128 + 64, 115)), WHITE)


def test_a_strip_is_one_row_of_the_papers_size() -> None:
    (image,) = history_picture.compose([plain(RED, (300, 300))] * 10, "strip")
    assert (image.width, image.height) == (3000, 300)


def test_separate_pictures_keep_their_shape() -> None:
    images = history_picture.compose([plain(RED, (256, 100)), plain(BLUE, (90, 256))], "separate")
    assert [(image.width, image.height) for image in images] == [(256, 100), (90, 256)]


def test_a_grid_gives_an_item_four_times_the_pixels_of_the_strip_at_low_detail() -> None:
    """Low detail shrinks the longest side to 512 pixels."""
    strip = 3000 / 10 * min(1.0, 512 / 3000)
    grid = 128 * min(1.0, 512 / 512)
    assert grid**2 >= 4 * strip**2


# --- thumbnails ---------------------------------------------------------------------------------------


def thumbnail_of(path: Path, side: int) -> Pillow.Image:
    return open_thumbnail(path.read_bytes(), side)


def save(path: Path, image: Pillow.Image, kind: str = "PNG", **options: object) -> Path:
    image.save(path, kind, **options)
    return path


def rotated_by_exif(path: Path) -> Path:
    image = Pillow.new("RGB", (40, 20), RED)
    exif = Pillow.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    return save(path, image, "JPEG", exif=exif)


MODES: dict[str, Callable[[Path], Path]] = {
    "greyscale": lambda path: save(path, Pillow.new("L", (40, 20), 90), "JPEG"),
    "cmyk": lambda path: save(path, Pillow.new("CMYK", (40, 20), (0, 200, 200, 20)), "JPEG"),
    "palette": lambda path: save(path, Pillow.new("RGB", (40, 20), RED).quantize(4)),
    "alpha": lambda path: save(path, Pillow.new("RGBA", (40, 20), (*RED, 128))),
    "grey with alpha": lambda path: save(path, Pillow.new("LA", (40, 20), (90, 200))),
    "16 bits": lambda path: save(path, Pillow.new("I;16", (40, 20), 90 * 256)),
    "1 bit": lambda path: save(path, Pillow.new("1", (40, 20), 1)),
    "gif": lambda path: save(path, Pillow.new("RGB", (40, 20), RED).quantize(4), "GIF"),
    "webp": lambda path: save(path, Pillow.new("RGB", (40, 20), RED), "WEBP"),
    "png named jpg": lambda path: save(path.with_suffix(".jpg"), Pillow.new("RGB", (40, 20), RED)),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_kind_of_image_becomes_rgb_in_its_own_shape(tmp_path: Path, mode: str) -> None:
    thumbnail = thumbnail_of(MODES[mode](tmp_path / "image"), 64)
    assert thumbnail.mode == "RGB"
    assert thumbnail.size == (64, 32)


@pytest.mark.parametrize(
    ("mode", "colour"), [("greyscale", (90, 90, 90)), ("16 bits", (90, 90, 90)), ("gif", RED)]
)
def test_colours_survive(tmp_path: Path, mode: str, colour: tuple[int, int, int]) -> None:
    assert near(thumbnail_of(MODES[mode](tmp_path / "image"), 64).getpixel((30, 16)), colour)


def test_transparency_becomes_white(tmp_path: Path) -> None:
    path = save(tmp_path / "image.png", Pillow.new("RGBA", (20, 20), (0, 0, 0, 0)))
    assert thumbnail_of(path, 20).getpixel((10, 10)) == WHITE
    paletted = Pillow.new("P", (20, 20), 0)
    paletted.putpalette([0, 0, 0, 255, 0, 0])
    assert thumbnail_of(save(tmp_path / "p.png", paletted, transparency=0), 20).getpixel((10, 10)) == WHITE


def test_a_photo_is_turned_upright(tmp_path: Path) -> None:
    assert thumbnail_of(rotated_by_exif(tmp_path / "image.jpg"), 64).size == (32, 64)


def test_a_damaged_image_is_unreadable(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.png", Pillow.effect_noise((64, 64), 50)).read_bytes()
    for content in (whole[:-200], b"", b"<svg/>" * 50):
        with pytest.raises(UnreadableImageError):
            open_thumbnail(content, 64)


@pytest.mark.parametrize("side", [8_000, 10_000, 14_000])
def test_a_decompression_bomb_is_refused_without_being_opened(tmp_path: Path, side: int) -> None:
    path = save(tmp_path / "bomb.png", Pillow.new("1", (side, side)))
    assert path.stat().st_size < 100_000
    with pytest.raises(UnreadableImageError, match="more than"):
        thumbnail_of(path, 64)


def test_thumbnails_are_read_once_and_the_least_recently_used_go(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{n}.png", Pillow.new("RGB", (64, 64), (n, n, n))) for n in range(3)]
    cache = ThumbnailCache(2 * 64 * 64 * 3)

    def get(n: int) -> Pillow.Image | None:
        return cache.get(lambda: paths[n].read_bytes() if paths[n].exists() else None, str(n), 64)

    first, _ = get(0), get(1)
    assert get(0) is first is not None
    get(2)  # pushes out 1, which was not asked for lately
    for path in paths:
        path.unlink()
    assert get(0) is first
    assert get(1) is None


def test_sizes_of_one_image_are_kept_apart(tmp_path: Path) -> None:
    read = save(tmp_path / "image.png", Pillow.new("RGB", (64, 64), RED)).read_bytes
    cache = ThumbnailCache(10**6)
    made = [cache.get(read, "x", side) for side in (32, 64, 32)]
    assert [thumbnail and thumbnail.width for thumbnail in made] == [32, 64, 32]


# --- pictures of a catalogue --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def catalogue(bundle_folder: Path) -> Catalogue:
    return open_bundle(bundle_folder).catalogue


async def test_an_item_without_a_readable_image_has_no_cell(catalogue: Catalogue, tmp_path: Path) -> None:
    items = [replace(item, image_sha256=None) for item in catalogue.items]
    for row in (0, 1, 2):
        draw = plain(RED)
        ImageDraw.Draw(draw).ellipse((30, 30, 90, 90), fill=BLUE)
        save(tmp_path / str(items[row].image), draw)
    (tmp_path / str(items[1].image)).write_bytes(b"not an image")
    pictures = Pictures(ThumbnailCache(10**6))
    other = replace(catalogue, items=tuple(items), images=ItemImages(tmp_path))
    pictured = await pictures.history(other, [0, 1, 5, 2], "grid")  # 1 is broken and 5 never had one
    assert [pictured.cell(position) for position in range(4)] == [1, None, None, 2]
    assert [(image.width, image.height) for image in pictured.images] == [(256, 128)]
    pictures.close()


@pytest.mark.parametrize("mode", ["grid", "strip", "separate"])
async def test_a_history_without_readable_images_has_no_picture(
    catalogue: Catalogue, mode: ImageMode
) -> None:
    pictures = Pictures(ThumbnailCache(10**6))
    assert (await pictures.history(catalogue, [5, 11], mode)).images == ()
    assert (await pictures.history(catalogue, [], mode)).images == ()
    assert await pictures.item(catalogue, 5) is None
    pictures.close()


def test_real_posters_all_open() -> None:
    folder = (
        Path(os.environ.get("MSR_TEST_DATA", "../shared/data")) / "movielens_posters" / "photos" / "movies"
    )
    posters = sorted(folder.glob("*.jpg"))[:60]
    if not posters:
        pytest.skip(f"no posters in {folder.resolve()}: set MSR_TEST_DATA to the data folder")
    for poster in posters:
        assert max(thumbnail_of(poster, 128).size) == 128


def test_exif_that_is_broken_but_for_its_orientation_turns_the_picture(tmp_path: Path) -> None:
    # One TIFF directory: a width (0x0100) that is text (type 2), and an orientation (0x0112) to be acted on.
    width = struct.pack("<HHI4s", 0x0100, 2, 4, b"abc\0")
    orientation = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + width + orientation + bytes(4)
    Pillow.new("RGB", (20, 10)).save(tmp_path / "odd.jpg", exif=exif)
    assert thumbnail_of(tmp_path / "odd.jpg", 16).size == (8, 16)
