"""The pictures of a data set: where they lie, and which of them can be shown."""

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
"""What browsers show and LVLM providers accept; Pillow would start other programs for some others."""


def find_photos(folder: Path, name: str, asked: Path | None) -> Path | None:
    """The folder of pictures: the one asked for, else ``<data>/photos``, else ``<data>/../photos/<name>``.

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
    """Items whose picture is not on disk lose its name, so that nobody waits for it later."""
    there = {path.name for path in photos.iterdir()} if photos else set()
    missing = sum(item.image is not None and item.image not in there for item in items)
    if missing:
        log.warning("%d items name a picture that is not in %s", missing, photos or "any photos folder")
    return tuple(item if item.image in there else replace(item, image=None) for item in items)


def picture_problem(path: Path) -> str | None:
    """Why a catalogue leaves a picture out; None for a good one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                image.load()
    except Exception as error:  # a damaged picture raises nearly anything
        return str(error)
    return None
