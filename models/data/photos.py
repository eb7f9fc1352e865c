"""Finds the pictures of a data set, and checks which of them can be decoded."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from models.contracts import Item
from models.errors import DataError

log = logging.getLogger(__name__)

FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
"""Picture formats that browsers show and LVLM providers accept; a picture of another format is left out. For
some of the others Pillow would start other programs."""


def find_photos(folder: Path, name: str, asked: Path | None) -> Path | None:
    """Finds the folder of pictures: the one asked for, ``<data>/photos`` or ``<data>/../photos/<name>``.

    Raises:
        DataError: the folder that was asked for does not exist.
    """
    if asked is not None:
        if not asked.is_dir():
            raise DataError(f"{asked} is no folder: name the folder of item pictures")
        return asked
    usual = (
        folder / "photos",
        folder.parent / "photos" / folder.name,
        folder.parent / "photos" / name,
    )
    return next((photos for photos in usual if photos.is_dir()), None)


def without_missing(items: Sequence[Item], photos: Path | None) -> tuple[Item, ...]:
    """Removes the names of pictures that are not on disk, so that no later step looks for them."""
    # One listing of the folder instead of a look at the disk per item.
    there = {path.name for path in photos.iterdir()} if photos else set()
    missing = sum(item.image is not None and item.image not in there for item in items)
    if missing:
        log.warning("%d items name a picture that is not in %s", missing, photos or "any photos folder")
    return tuple(item if item.image in there else replace(item, image=None) for item in items)


def picture_problem(path: Path) -> str | None:
    """Returns why a catalogue leaves a picture out; None for a picture that can be shown."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of a file that decodes to more than 89 million pixels, which would fill the memory.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                image.load()
    except Exception as error:  # a damaged picture raises nearly anything
        return str(error)
    return None
