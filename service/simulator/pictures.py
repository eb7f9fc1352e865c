"""From the pictures of a prompt to one array of pixels per item shown."""

from __future__ import annotations

import io
from math import ceil

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]  # [height, width, 3], RGB

CELL = 96  # pixels of the longer side at which an item is looked at: enough for its pattern, and quick


def item_pixels(picture: bytes, items: int) -> list[Pixels]:
    """Decode a picture and cut it into what shows one item each: a grid or a strip, row by row.

    Raises:
        OSError: the picture is broken behind its header.
    """
    return [_shrink(cell) for cell in _cut(_decode(picture), items)]


def grid_shape(width: int, height: int, items: int) -> tuple[int, int]:
    """Columns and rows of a picture that shows this many items: those whose cells are nearest to square."""
    columns = min(range(1, items + 1), key=lambda c: (abs(width / c - height / ceil(items / c)), c))
    return columns, ceil(items / columns)


def _cut(picture: Image.Image, items: int) -> list[Image.Image]:
    columns, rows = grid_shape(picture.width, picture.height, items)
    boxes = [
        (
            column * picture.width // columns,
            row * picture.height // rows,
            (column + 1) * picture.width // columns,
            (row + 1) * picture.height // rows,
        )
        for row in range(rows)
        for column in range(columns)
    ]
    return [picture.crop(box) for box in boxes[:items] if box[0] < box[2] and box[1] < box[3]]


def _decode(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (2048, 2048))  # JPEG only: decode a huge one at a fraction of its size
        if image.mode in ("RGBA", "LA", "PA", "P"):
            image_rgba = image.convert("RGBA")
            white = Image.new("RGBA", image_rgba.size, "white")
            return Image.alpha_composite(white, image_rgba).convert("RGB")
        return image.convert("RGB")


def _shrink(cell: Image.Image) -> Pixels:
    if max(cell.size) > CELL:
        cell.thumbnail((CELL, CELL), Image.Resampling.BOX)
    return np.asarray(cell)
