"""Composes thumbnails into the pictures that a prompt carries: a grid, the paper's strip, or single pictures.

The grid suits the way in which vendors shrink and bill pictures: ten items are 4 × 3 cells of 128 pixels,
which is 512 × 384 pixels, one tile at low detail or 16 × 12 patches of 32 pixels. The paper's strip of 3,000
× 300 pixels is shrunk to 512 × 51 at the same price, so that an item has a sixth of the pixels.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from math import ceil, isqrt

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from models.contracts.picture import BACKGROUND
from service.lvlm.contracts import ImageMode
from service.lvlm.providers.base import Image

VERSION = "montage-1"
"""Version of the pictures, part of the key of every answer to one; it must change when the pixels do."""

CELL_SIDE: Mapping[ImageMode, int] = {"grid": 128, "strip": 300, "separate": 256}
"""Pixels of the side of an item's square cell, by arrangement of the pictures."""

CAPTION_SIDE = 512
"""Pixels of the longer side of a picture that a caption is made for."""

_QUALITY = 85  # of JPEG, from 1 to 95
_LINE = (200, 200, 200)
_BADGE = (0, 0, 0)
_INK = (255, 255, 255)


def compose(thumbnails: Sequence[Pillow.Image], mode: ImageMode) -> tuple[Image, ...]:
    """Makes the pictures of a history, oldest item first; cells are numbered from 1.

    Args:
        thumbnails: RGB pictures, each fitted into ``CELL_SIDE[mode]`` pixels; at least one.
        mode: arrangement: ``grid`` and ``strip`` give one picture, ``separate`` one per item.
    """
    if mode == "separate":
        return tuple(encode(thumbnail) for thumbnail in thumbnails)
    columns = len(thumbnails) if mode == "strip" else grid_columns(len(thumbnails))
    return (encode(_cells(thumbnails, columns, CELL_SIDE[mode])),)


def grid_columns(cells: int) -> int:
    """Returns the columns of a grid for so many cells: as square as possible, and not higher than wide."""
    root = isqrt(cells)
    return root if root * root == cells else root + 1  # the square root, rounded up


def encode(picture: Pillow.Image) -> Image:
    """Encodes an RGB picture as JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return Image(buffer.getvalue(), "image/jpeg", picture.width, picture.height)


def _cells(thumbnails: Sequence[Pillow.Image], columns: int, side: int) -> Pillow.Image:
    """One picture with a thumbnail in the middle of each cell, row by row."""
    rows = ceil(len(thumbnails) / columns)
    canvas = Pillow.new("RGB", (columns * side, rows * side), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    # 18 pixels in a grid, 42 in a strip.
    font = ImageFont.load_default(side // 7)
    for position, thumbnail in enumerate(thumbnails):
        left, top = position % columns * side, position // columns * side
        canvas.paste(thumbnail, (left + (side - thumbnail.width) // 2, top + (side - thumbnail.height) // 2))
        draw.rectangle((left, top, left + side - 1, top + side - 1), outline=_LINE)
        _number(draw, position + 1, left, top, font)
    return canvas


def _number(
    draw: ImageDraw.ImageDraw,
    number: int,
    left: int,
    top: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Draws a cell's number on a badge in its upper left corner."""
    text = str(number)
    box = draw.textbbox((left + 4, top + 3), text, font=font)
    draw.rectangle((left, top, box[2] + 4, box[3] + 4), fill=_BADGE)
    draw.text((left + 4, top + 3), text, fill=_INK, font=font)
