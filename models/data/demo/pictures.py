"""Draws the picture of a product, with one function for each kind of product."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from models.data.demo.drawing import (
    Canvas,
    Colour,
    Mask,
    Y,
    add_material,
    box,
    ellipse,
    line,
    pattern,
    polygon,
    shrunk,
    turned,
)
from models.data.demo.products import Product

BACKGROUND = (226, 229, 230)
DARK, PALE, WOOD = (58, 58, 64), (250, 248, 242), (150, 108, 70)
COLOURS: dict[str, Colour] = {
    "red": (200, 44, 44),
    "yellow": (246, 204, 52),
    "green": (52, 138, 74),
    "blue": (40, 92, 184),
    "purple": (122, 66, 158),
    "pink": (240, 142, 176),
    "black": (44, 44, 50),
    "white": (252, 252, 250),
}
SECOND_COLOUR = {"yellow": DARK, "white": (96, 104, 116), "pink": PALE}  # of a pattern; PALE on the others


class Painting:
    """Draws the parts of one product on a canvas."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._canvas = Canvas(BACKGROUND)
        self.colour = COLOURS[product.colour]
        self.slim = 5 if product.slim else 0

    def surface(self, body: Mask) -> None:
        """Draws the part that carries colour, pattern and material."""
        look = self._product
        self._canvas.fill(body, self.colour)
        self._canvas.fill(body & pattern(look.pattern), SECOND_COLOUR.get(look.colour, PALE))
        add_material(self._canvas, body, look.material)
        self.outline(body)

    def part(self, body: Mask, colour: Colour) -> None:
        """Draws a part in one colour."""
        self._canvas.fill(body, colour)
        self.outline(body)

    def shade(self, body: Mask, percent: int) -> None:
        """Makes a region darker or brighter."""
        self._canvas.light(body, percent)

    def outline(self, body: Mask) -> None:
        """Draws a dark rim, which keeps white products visible."""
        self._canvas.light(body & ~shrunk(body, 1), 62)

    def finish(self) -> NDArray[np.uint8]:
        """Returns the pixels, uint8 [128, 128, 3]."""
        return self._canvas.finish()


def picture(product: Product) -> NDArray[np.uint8]:
    """Draws a product, uint8 [128, 128, 3]."""
    painting = Painting(product)
    painting.shade(ellipse(64, 110, 46, 6), 86)  # a shadow below the product
    DRAW[product.kind.name](painting)
    return painting.finish()


def _ring(x: float, y: float, width: float, height: float, thick: float) -> Mask:
    return ellipse(x, y, width, height) & ~ellipse(x, y, width - thick, height - thick)


def _mug(p: Painting) -> None:
    p.part(_ring(88 - p.slim, 70, 19, 20, 7), p.colour)
    p.surface(turned(58, (38, 29 - p.slim), (92, 29 - p.slim), (104, 25 - p.slim), (108, 19 - p.slim)))
    p.part(ellipse(58, 38, 29 - p.slim, 6), DARK)


def _teapot(p: Painting) -> None:
    p.part(_ring(25 + p.slim, 70, 19, 20, 6), p.colour)
    p.part(polygon((82, 76), (106, 44), (117, 48), (94, 96)), p.colour)
    p.part(ellipse(60, 35, 5, 5), p.colour)
    p.surface(ellipse(60, 74, 37 - p.slim, 34))
    p.part(ellipse(60, 44, 19, 6), DARK)
    p.part(ellipse(60, 42, 18, 5), p.colour)


def _plate(p: Painting) -> None:
    p.surface(ellipse(64, 66, 53, 46 - p.slim))
    well = ellipse(64, 66, 33, 28 - p.slim)
    p.shade(well, 112)
    p.outline(well)


def _bowl(p: Painting) -> None:
    p.part(box(50, 98, 78, 109), p.colour)
    p.surface(ellipse(64, 58, 50 - p.slim, 46) & (Y >= 58))
    p.part(ellipse(64, 58, 50 - p.slim, 9), DARK)


def _lamp(p: Painting) -> None:
    p.part(box(61, 60, 67, 104), WOOD)
    p.part(ellipse(64, 105, 22, 5), WOOD)
    p.surface(polygon((46 + p.slim, 16), (82 - p.slim, 16), (106 - p.slim, 68), (22 + p.slim, 68)))


def _clock(p: Painting) -> None:
    radius = 50 - p.slim
    p.surface(ellipse(64, 62, radius, radius))
    p.part(ellipse(64, 62, 29, 29), PALE)
    for x, y in ((64, 37), (64, 87), (39, 62), (89, 62)):
        p.part(ellipse(x, y, 2.5, 2.5), DARK)
    p.part(line(64, 62, 64, 43, 4), DARK)
    p.part(line(64, 62, 77, 69, 4), DARK)


def _vase(p: Painting) -> None:
    neck = 13 - p.slim
    p.surface(turned(64, (18, neck + 5), (30, neck), (44, neck + 4), (58, 28), (74, 33), (92, 27), (109, 17)))
    p.part(ellipse(64, 18, neck + 5, 4), DARK)


def _cushion(p: Painting) -> None:
    top = 20 + p.slim
    p.surface(
        polygon((14, top), (40, top + 6), (64, top + 7), (88, top + 6), (114, top), (108, 64))
        | polygon((14, top), (108, 64), (114, 110), (88, 104), (64, 103), (40, 104), (14, 110), (20, 64))
    )
    p.part(ellipse(64, 65, 3.5, 3.5), DARK)


def _bottle(p: Painting) -> None:
    width = 23 - p.slim
    p.part(box(54, 8, 74, 22), DARK)
    p.surface(turned(64, (22, 9), (32, 9), (46, width), (103, width), (109, width - 4)))


def _bag(p: Painting) -> None:
    p.part(_ring(64, 48, 23 - p.slim, 34, 6) & (Y < 50), WOOD)
    p.surface(polygon((28 + p.slim, 46), (100 - p.slim, 46), (110, 109), (18, 109)))


def _umbrella(p: Painting) -> None:
    p.part(line(64, 12, 64, 100, 4), DARK)
    p.part(_ring(71, 101, 9, 10, 4) & (Y > 100), DARK)
    canopy = ellipse(64, 66, 54 - p.slim, 48) & (Y < 66)
    for x in (28, 64, 100):
        canopy &= ~ellipse(x, 68, 18, 9)
    p.surface(canopy)


def _notebook(p: Painting) -> None:
    right = 102 - 2 * p.slim
    p.part(box(34, 22, right + 3, 109), PALE)
    p.surface(box(28, 18, right, 106))
    p.shade(box(28, 18, 37, 106), 70)
    p.part(box(right - 14, 18, right - 10, 106), DARK)


DRAW: dict[str, Callable[[Painting], None]] = {
    "mug": _mug,
    "teapot": _teapot,
    "plate": _plate,
    "bowl": _bowl,
    "lamp": _lamp,
    "clock": _clock,
    "vase": _vase,
    "cushion": _cushion,
    "bottle": _bottle,
    "bag": _bag,
    "umbrella": _umbrella,
    "notebook": _notebook,
}
