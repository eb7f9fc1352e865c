"""Caches the descriptions of pictures, so that each picture is described once.

A service sends the same histories and the same item images again and again, while a description takes
milliseconds of a core. Whole pictures and their cells are cached by SHA-256. The cell of an item often has
the same pixels in another picture: the side of a cell is a multiple of JPEG's blocks, and lines and numbers
are cut off.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from service.simulator.vision.picture_cells import Pixels, item_pixels
from service.simulator.vision.picture_description import Description, describe

Value = TypeVar("Value")

_MAX_REMEMBERED = 16_384  # pictures, and as many cells, of about 1 kB each; beyond, the oldest is dropped


class CachedDescriber:
    """Describes pictures with a cache; not safe for several threads at once."""

    def __init__(self) -> None:
        self._pictures: OrderedDict[bytes, tuple[Description, ...]] = OrderedDict()
        self._cells: OrderedDict[bytes, Description] = OrderedDict()

    def describe(self, picture: bytes, items: int) -> tuple[Description, ...]:
        """Describes an encoded picture of so many items, one description per item.

        Raises:
            BrokenPictureError: the pixels cannot be decoded.
        """
        digest = hashlib.sha256(picture).digest() + items.to_bytes(2, "big")
        return _remembered(
            self._pictures, digest, lambda: tuple(map(self._describe_cell, item_pixels(picture, items)))
        )

    def _describe_cell(self, pixels: Pixels) -> Description:
        digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
        return _remembered(self._cells, digest, lambda: describe(pixels))


def _remembered(memory: OrderedDict[bytes, Value], key: bytes, make: Callable[[], Value]) -> Value:
    if key not in memory:
        memory[key] = make()
        if len(memory) > _MAX_REMEMBERED:
            memory.popitem(last=False)
    memory.move_to_end(key)
    return memory[key]
