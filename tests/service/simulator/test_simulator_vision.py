"""Tests the description of pictures: colours, patterns, outlines, cells."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from simulator_prompts import BLUE, GREEN, GROUND, RED, WHITE, Colour, encoded, grid, product

from service.simulator.vision.colours import FAMILIES
from service.simulator.vision.description_cache import CachedDescriber
from service.simulator.vision.picture_cells import count_items, grid_shape, item_pixels
from service.simulator.vision.picture_description import Description, describe

COLOURS = {
    "red": RED,
    "blue": BLUE,
    "green": GREEN,
    "yellow": (246, 204, 52),
    "purple": (122, 66, 158),
    "pink": (240, 142, 176),
    "orange": (240, 130, 28),
    "brown": (120, 76, 40),
    "black": (30, 30, 34),
    "teal": (18, 128, 124),
}


def seen(picture: Image.Image, kind: str = "JPEG") -> Description:
    return describe(item_pixels(encoded(picture, kind), 1)[0])


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("pattern", ["plain", "striped", "dotted", "checked"])
@pytest.mark.parametrize("name", COLOURS)
def test_colour_and_pattern_are_named(name: str, pattern: str, kind: str) -> None:
    found = seen(product(COLOURS[name], pattern=pattern), kind)
    assert FAMILIES[found.colours[0]] == name
    assert found.pattern == pattern
    assert [FAMILIES[colour] in ("white", "cream") for colour in found.colours[1:]] == [True] * (
        pattern != "plain"
    )


def test_stripes_are_found_in_any_direction() -> None:
    striped = product(RED, pattern="striped", box=(0, 0, 128, 128))
    for angle in (0, 45, 90):
        turned = striped.resize((256, 256)).rotate(angle).crop((64, 64, 192, 192)).crop((0, 0, 80, 80))
        picture = Image.new("RGB", (128, 128), GROUND)
        picture.paste(turned, (24, 24))
        assert seen(picture).pattern == "striped", angle


def test_light_and_shade_are_no_pattern() -> None:
    shade = np.linspace(0.6, 1.1, 80)[None, :, None] * np.array(BLUE)
    picture = product(BLUE)
    picture.paste(
        Image.fromarray(np.broadcast_to(shade, (80, 80, 3)).clip(0, 255).astype(np.uint8)), (24, 24)
    )
    assert seen(picture).pattern == "plain"


@pytest.mark.parametrize(
    ("box", "outline"),
    [((48, 8, 80, 120), "tall"), ((8, 48, 120, 80), "wide"), ((24, 24, 104, 104), "compact")],
)
def test_the_outline_is_named(box: tuple[int, int, int, int], outline: str) -> None:
    assert seen(product(GREEN, box=box)).outline == outline


def test_a_disc_is_round() -> None:
    picture = Image.new("RGB", (128, 128), WHITE)
    rows, columns = np.mgrid[:128, :128]
    disc = Image.fromarray((((rows - 64) ** 2 + (columns - 64) ** 2 < 50**2) * 255).astype(np.uint8))
    picture.paste(RED, mask=disc)
    assert seen(picture).sentence == "A round plain red object on a light background."


@pytest.mark.parametrize(("ground", "name"), [(WHITE, "light"), ((12, 12, 12), "dark"), (GREEN, "green")])
def test_the_background_is_named(ground: Colour, name: str) -> None:
    picture = Image.new("RGB", (128, 128), ground)
    picture.paste(RED, (24, 24, 104, 104))
    assert seen(picture).background == name


def test_an_empty_picture_is_described_as_empty_and_gives_no_words() -> None:
    empty = seen(Image.new("RGB", (128, 128), WHITE))
    assert empty.sentence == "A picture of nothing but a light background."
    assert empty.words == ()


def test_a_picture_without_background_is_not_said_to_have_a_shape() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    busy = seen(Image.fromarray(noise).resize((128, 128), Image.Resampling.NEAREST))
    assert (busy.outline, busy.background, busy.pattern) == ("", "", "detailed")


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_pictures_in_every_mode_are_read(mode: str) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    picture = product((20, 20, 20))
    converted = picture.quantize(8) if mode == "P" else picture.convert(mode)
    assert seen(converted, kind).colours[0] == "black"


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2), (5, 5)])
def test_a_picture_of_any_size_is_described(size: tuple[int, int]) -> None:
    assert seen(Image.new("RGB", size, RED), "PNG").sentence


@pytest.mark.parametrize(
    ("width", "height", "items", "shape"),
    [
        (512, 384, 10, (4, 3)),
        (384, 384, 9, (3, 3)),
        (384, 256, 5, (3, 2)),
        (256, 128, 2, (2, 1)),
        (3000, 300, 10, (10, 1)),
        (128, 128, 1, (1, 1)),
        (640, 256, 10, (5, 2)),
    ],
)
def test_the_layout_of_a_grid_is_the_one_with_square_cells(
    width: int, height: int, items: int, shape: tuple[int, int]
) -> None:
    assert grid_shape(width, height, items) == shape


@pytest.mark.parametrize(
    ("width", "height", "listed", "items"),
    [
        (512, 384, 10, 10),
        (384, 384, 10, 9),  # one of the ten has no picture
        (3000, 300, 0, 10),
        (256, 256, 0, 4),
        (128, 128, 0, 1),
        (640, 400, 0, 1),  # one photo
    ],
)
def test_items_of_an_unnumbered_picture_are_counted_by_its_size(
    width: int, height: int, listed: int, items: int
) -> None:
    assert count_items(width, height, listed) == items


def test_every_cell_of_a_grid_is_seen_without_its_number() -> None:
    colours = list(COLOURS.values())
    cells = item_pixels(encoded(grid([product(colour) for colour in colours], columns=4)), len(colours))
    assert [FAMILIES[describe(cell).colours[0]] for cell in cells] == list(COLOURS)
    assert {describe(cell).pattern for cell in cells} == {"plain"}


def test_a_caption_says_the_family_of_a_colour_that_does_not_name_it() -> None:
    assert "navy blue object" in seen(product((26, 38, 88))).sentence
    assert "plain blue object" in seen(product(BLUE)).sentence


def test_an_item_seen_in_one_grid_is_known_in_the_next() -> None:
    describer = CachedDescriber()
    cells = [product(colour, pattern="striped") for colour in COLOURS.values()]
    forward, backward = (encoded(grid(shown, columns=4)) for shown in (cells, cells[::-1]))
    assert describer.describe(forward, len(cells)) == describer.describe(backward, len(cells))[::-1]
    assert describer.describe(forward, len(cells)) is describer.describe(forward, len(cells))
