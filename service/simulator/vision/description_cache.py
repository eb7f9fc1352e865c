"""Looks at pictures and remembers what they show.

A service sends the same histories and the same item images again and again, while describing a picture takes
milliseconds of a core. So both whole pictures and their cells are remembered by digest. A cell is often the
same to the last bit in another picture: cells are a multiple of JPEG's blocks, and lines and numbers are cut
off.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from service.simulator.vision.description import Look, look
from service.simulator.vision.picture_cells import Pixels, item_pixels

Value = TypeVar("Value")

_REMEMBERED = 16_384  # pictures, and as many cells; a kilobyte or so each


class Eyes:
    """Looks at pictures; to be used by one thread."""

    def __init__(self) -> None:
        self._pictures: OrderedDict[bytes, tuple[Look, ...]] = OrderedDict()
        self._cells: OrderedDict[bytes, Look] = OrderedDict()

    def see(self, picture: bytes, items: int) -> tuple[Look, ...]:
        """What an encoded picture shows of each of so many items.

        Raises:
            BrokenPictureError: the picture is broken behind its header.
        """
        digest = hashlib.sha256(picture).digest() + items.to_bytes(2, "big")
        return _remembered(
            self._pictures, digest, lambda: tuple(map(self._see_cell, item_pixels(picture, items)))
        )

    def _see_cell(self, pixels: Pixels) -> Look:
        digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
        return _remembered(self._cells, digest, lambda: look(pixels))


def _remembered(memory: OrderedDict[bytes, Value], key: bytes, make: Callable[[], Value]) -> Value:
    if key not in memory:
        memory[key] = make()
        if len(memory) > _REMEMBERED:
            memory.popitem(last=False)
    memory.move_to_end(key)
    return memory[key]
