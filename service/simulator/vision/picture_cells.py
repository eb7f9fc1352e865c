"""Decodes the pictures of a prompt and cuts them into one cell of pixels per item shown."""

from __future__ import annotations

import io
import struct
from math import ceil

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]  # [height, width, 3], RGB

CELL = 96  # pixels of the longer side to which a cell is reduced: enough for its pattern
_LONGEST_HISTORY = 10  # items that a prompt shows at most
_MIN_CELL = 96  # pixels of a side; a smaller square is part of a cell
_LINE = 0.02  # share of a cell's side that the line around it takes
_NUMBER = 0.25  # share of a cell's side, from its top left corner, in which its number stands


class BrokenPictureError(Exception):
    """The header of a picture is sound, and its pixels cannot be decoded."""


def item_pixels(picture: bytes, items: int) -> list[Pixels]:
    """Decodes a picture and cuts it into cells, row by row.

    Args:
        picture: encoded bytes of a grid, a strip or a single item.
        items: items that it shows, at least 1.

    Returns:
        RGB [height, width, 3] of each item.

    Raises:
        BrokenPictureError: the pixels cannot be decoded.
    """
    return [_shrink(cell) for cell in _cut(_decode(picture), items)]


def grid_shape(width: int, height: int, items: int) -> tuple[int, int]:
    """Finds columns and rows of a picture of so many items: those whose cells are nearest to square."""
    columns = min(range(1, items + 1), key=lambda c: (abs(width / c - height / ceil(items / c)), c))
    return columns, ceil(items / columns)


def count_items(width: int, height: int, listed: int) -> int:
    """Counts the items that a picture shows, for a prompt that numbers no cells.

    As many as are listed if their cells are square; else those of a strip; else as many square cells as a
    history has at most.
    """
    if listed and _is_square(width, height, listed):
        return listed
    # A strip is one row of squares.
    if width >= 2 * height and width % height == 0:
        return width // height
    fitting = (items for items in range(_LONGEST_HISTORY, 0, -1) if _is_square(width, height, items))
    return next(fitting, 1)


def _is_square(width: int, height: int, items: int) -> bool:
    columns, rows = grid_shape(width, height, items)
    across, down = width / columns, height / rows
    return across >= _MIN_CELL and abs(across - down) < 0.02 * across


def _cut(picture: Image.Image, items: int) -> list[Image.Image]:
    if items == 1:
        return [picture]
    columns, rows = grid_shape(picture.width, picture.height, items)
    across, down = picture.width / columns, picture.height / rows
    corners = [(column * across, row * down) for row in range(rows) for column in range(columns)]
    return [_cell(picture, left, top, across, down) for left, top in corners[:items]]


def _cell(picture: Image.Image, left: float, top: float, across: float, down: float) -> Image.Image:
    """Crops a cell without the line around it, and paints its number over: neither is part of the item."""
    cell = picture.crop(
        (
            round(left + _LINE * across),
            round(top + _LINE * down),
            max(round(left + 1), round(left + (1 - _LINE) * across)),
            max(round(top + 1), round(top + (1 - _LINE) * down)),
        )
    )
    # The opposite corner shows the background; the service writes the number into the top left one.
    other_corner = cell.crop((cell.width - 1, 0, cell.width, 1))
    cell.paste(other_corner.resize((ceil(_NUMBER * cell.width), ceil(_NUMBER * cell.height))))
    return cell


def _decode(data: bytes) -> Image.Image:
    try:
        return _rgb(data)
    # Pillow's decoders let through what their parsers raise on damaged input.
    except (OSError, SyntaxError, ValueError, EOFError, LookupError, OverflowError, struct.error) as error:
        raise BrokenPictureError(str(error)) from error


def _rgb(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (2048, 2048))  # JPEG only: decode a huge one at a fraction of its size
        if image.mode in ("RGBA", "LA", "PA", "P"):
            image_rgba = image.convert("RGBA")
            # Transparent pixels show white, as on the page of a shop.
            white = Image.new("RGBA", image_rgba.size, "white")
            return Image.alpha_composite(white, image_rgba).convert("RGB")
        return image.convert("RGB")


def _shrink(cell: Image.Image) -> Pixels:
    if max(cell.size) > CELL:
        # BOX averages: a pattern finer than the cell becomes its mean instead of an alias.
        cell.thumbnail((CELL, CELL), Image.Resampling.BOX)
    return np.asarray(cell)
