"""Composes thumbnails into the pictures that a prompt carries: a grid, the paper's strip, or one by one.

The grid is made for how vendors bill and shrink pictures: ten items are 4 × 3 cells of 128 pixels, 512 × 384,
which is one tile at low detail and 12 × 16 patches of 32. The paper's strip of 3,000 × 300 pixels is shrunk
to 512 × 51 at the same price: a sixth of the pixels for each item.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from math import ceil, isqrt

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from service.lvlm.contracts import ImageMode
from service.lvlm.prompt.thumbnails import BACKGROUND
from service.lvlm.providers.base import Image

VERSION = "montage-1"
"""Part of the key of every answer that was shown a picture; changes with anything that changes the pixels."""

CELL_SIDE: Mapping[ImageMode, int] = {"grid": 128, "strip": 300, "separate": 256}
"""Pixels of a cell's side, by the way in which a history is shown."""

CAPTION_SIDE = 512
"""Pixels of the longer side of a picture that is to be described."""

_QUALITY = 85  # of JPEG, from 1 to 95
_LINE = (200, 200, 200)
_BADGE = (0, 0, 0)
_INK = (255, 255, 255)


def compose(thumbnails: Sequence[Pillow.Image], mode: ImageMode) -> tuple[Image, ...]:
    """Makes the pictures of a history, oldest first; cells are numbered from 1.

    Args:
        thumbnails: RGB, each fitted into ``CELL_SIDE[mode]`` pixels; at least one.
        mode: ``grid`` and ``strip`` make one picture, ``separate`` one for each item.
    """
    if mode == "separate":
        return tuple(encode(thumbnail) for thumbnail in thumbnails)
    columns = len(thumbnails) if mode == "strip" else grid_columns(len(thumbnails))
    return (encode(_cells(thumbnails, columns, CELL_SIDE[mode])),)


def grid_columns(cells: int) -> int:
    """Returns the columns of a grid that is as square as it can be and never higher than wide."""
    root = isqrt(cells)
    return root if root * root == cells else root + 1  # the square root, rounded up


def encode(picture: Pillow.Image) -> Image:
    """Encodes an RGB picture as JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return Image(buffer.getvalue(), "image/jpeg", picture.width, picture.height)


def _cells(thumbnails: Sequence[Pillow.Image], columns: int, side: int) -> Pillow.Image:
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
    text = str(number)
    box = draw.textbbox((left + 4, top + 3), text, font=font)
    draw.rectangle((left, top, box[2] + 4, box[3] + 4), fill=_BADGE)
    draw.text((left + 4, top + 3), text, fill=_INK, font=font)
