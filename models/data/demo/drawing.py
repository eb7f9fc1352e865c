"""Draws shapes as masks and fills them with colours, shades, patterns and the look of materials.

Everything is drawn twice as large and averaged down. All arithmetic is on integers or exactly rounded by IEEE
754 (no sines, no drawing library), so the pixels do not depend on the machine or on Pillow's version.

Coordinates are pixels of the finished picture, (0, 0) at the top left.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

SIZE = 128
"""Width and height of a finished picture, in pixels."""

SCALE = 2
"""Points per pixel in each direction while drawing; ``Canvas.finish`` adds pairs, so it cannot be another."""

Mask = NDArray[np.bool_]
Colour = tuple[int, int, int]

_STEPS = (np.arange(SIZE * SCALE) + 0.5) / SCALE
X, Y = _STEPS[None, :], _STEPS[:, None]  # coordinates of all points, [1, 256] and [256, 1]
_SHAPE = (SIZE * SCALE, SIZE * SCALE)
_COLUMNS, _ROWS = np.arange(SIZE * SCALE)[None, :], np.arange(SIZE * SCALE)[:, None]


def ellipse(x: float, y: float, width: float, height: float) -> Mask:
    """Makes an ellipse around (x, y); width and height are half axes."""
    across, down = (X - x) / width, (Y - y) / height
    return across * across + down * down <= 1


def box(left: float, top: float, right: float, bottom: float) -> Mask:
    """Makes a rectangle, left and top edge included."""
    return (left <= X) & (right > X) & (top <= Y) & (bottom > Y)


def polygon(*points: tuple[float, float]) -> Mask:
    """Makes the inside of a closed line, by the even-odd rule."""
    inside = np.zeros(_SHAPE, dtype=np.bool_)
    for (x1, y1), (x2, y2) in zip(points, points[1:] + points[:1], strict=True):
        if y1 != y2:  # a horizontal edge is never crossed by a horizontal ray
            edge = x1 + (Y - y1) * (x2 - x1) / (y2 - y1)
            inside ^= ((y1 > Y) != (y2 > Y)) & (edge > X)
    return inside


def turned(middle: float, *profile: tuple[float, float]) -> Mask:
    """Makes a shape symmetric to the line x = middle, such as a vase, from (y, half width), top to bottom."""
    left = [(middle - width, y) for y, width in profile]
    right = [(middle + width, y) for y, width in reversed(profile)]
    return polygon(*left, *right)


def line(x1: float, y1: float, x2: float, y2: float, width: float) -> Mask:
    """Makes a straight stroke with round ends."""
    dx, dy = x2 - x1, y2 - y1
    along = np.clip(((X - x1) * dx + (Y - y1) * dy) / (dx * dx + dy * dy), 0, 1)
    away_x, away_y = X - x1 - along * dx, Y - y1 - along * dy
    return 4 * (away_x * away_x + away_y * away_y) <= width * width


def shrunk(mask: Mask, by: float) -> Mask:
    """Removes a rim of the given width from a mask."""
    steps = int(by * SCALE)
    padded = np.pad(mask, steps)
    inside = mask.copy()
    # A point stays when its four neighbours at this distance are inside.
    for down, right in ((0, steps), (2 * steps, steps), (steps, 0), (steps, 2 * steps)):
        inside &= padded[down : down + SIZE * SCALE, right : right + SIZE * SCALE]
    return inside


class Canvas:
    """A picture that is being drawn: a colour and a brightness for every point."""

    def __init__(self, background: Colour) -> None:
        self._colours = [background]
        self._paint = np.zeros(_SHAPE, dtype=np.uint8)  # index into the colours
        self._light = np.full(_SHAPE, 100, dtype=np.int16)  # per cent, 0 black to 200 white

    def fill(self, mask: Mask, colour: Colour) -> None:
        """Paints over what was drawn before, at a brightness of 100 %."""
        if colour not in self._colours:
            self._colours.append(colour)
        self._paint[mask] = self._colours.index(colour)
        self._light[mask] = 100

    def light(self, mask: Mask, percent: int) -> None:
        """Makes points brighter (above 100, white at 200) or darker (below 100, black at 0)."""
        self._light[mask] = np.clip(self._light[mask] + percent - 100, 0, 200)

    def finish(self) -> NDArray[np.uint8]:
        """Averages the points to the finished picture, uint8 [SIZE, SIZE, 3]."""
        colours = np.array(self._colours, dtype=np.int32)[:, None, :]
        lights = np.arange(201)[None, :, None]
        darker, brighter = colours * lights // 100, 255 - (255 - colours) * (200 - lights) // 100
        # Every colour at every brightness, [colours · 201, 3]; a point looks its own up.
        shades = np.where(lights <= 100, darker, brighter).astype(np.uint16).reshape(-1, 3)
        points = shades.take(self._paint * np.intp(201) + self._light, axis=0)
        rows = points[0::SCALE] + points[1::SCALE]
        means = (rows[:, 0::SCALE] + rows[:, 1::SCALE]) // (SCALE * SCALE)
        # Steps of eight are not visible, and keep a picture below 256 colours, the limit of a palette.
        return (means // 8 * 8 + 4).astype(np.uint8)


@cache
def pattern(name: str) -> Mask:
    """Marks where a pattern has its second colour; nowhere when plain."""
    if name == "striped":
        return np.broadcast_to(Y % 14 < 6, _SHAPE)
    if name == "dotted":
        row = Y // 11
        across, down = (X + row % 2 * 6.5) % 13 - 6.5, Y % 11 - 5.5
        return np.asarray(across * across + down * down <= 9)
    if name == "checked":
        return np.asarray((X // 9 + Y // 9) % 2 == 0)
    return np.zeros(_SHAPE, dtype=np.bool_)


def add_material(canvas: Canvas, body: Mask, name: str) -> None:
    """Makes a painted body look like its material."""
    if name == "stoneware":
        # A hash of the position (Teschner et al., 2003) for speckles that are the same on every machine.
        cells = (_COLUMNS // 3 * 73856093) ^ (_ROWS // 3 * 19349663)
        canvas.light(body & (cells % 9 == 0), 72)
    elif name in ("porcelain", "nylon"):
        canvas.light(body & (ellipse(47, 52, 5, 18) | ellipse(47, 80, 4, 4)), 165)
    elif name == "glass":
        canvas.light(body, 122)
        canvas.light(body & ((X + Y) % 36 < 5), 150)
    elif name == "steel":
        for left, right, percent in ((0, 44, 78), (52, 62, 140), (84, 128, 70)):
            canvas.light(body & box(left, 0, right, SIZE), percent)
    elif name == "wood":
        bend = (X - 64) * (X - 64) / 260
        canvas.light(body & ((Y + bend) % 9 < 1.5), 68)
    elif name == "cotton":
        canvas.light(body & ((_COLUMNS // 2 + _ROWS // 2) % 3 == 0), 88)
    elif name == "velvet":
        for top in range(20, 128, 12):
            canvas.light(body & box(0, top, SIZE, SIZE), 95)
    elif name == "leather":
        seam = shrunk(body, 3) & ~shrunk(body, 4.5) & ((X + Y) % 6 < 3.5)
        canvas.light(seam, 60)
        canvas.light(body & box(0, 84, SIZE, SIZE), 88)
