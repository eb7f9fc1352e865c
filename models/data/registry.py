"""Picks the reader for a folder by the files in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.data import amazon, amazon_plus
from models.data.dataset import Dataset
from models.errors import DataError


@dataclass(frozen=True)
class Layout:
    """One way to lay a data set out in a folder.

    Attributes:
        looks_like: description of its files, for the message when no layout fits.
        recognises: function of a folder to whether it has this layout.
        read: function of folder, name or None, and photos folder or None; it returns the data set.
    """

    looks_like: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, str | None, Path | None], Dataset]


LAYOUTS = (
    Layout(
        "datamaps.json, item2side.json and sequential.txt (Amazon Review Plus)",
        amazon_plus.recognises,
        amazon_plus.read,
    ),
    Layout(
        "reviews_X_5.json.gz or reviews_X.json.gz, and meta_X.json.gz (McAuley's original files)",
        amazon.recognises,
        amazon.read,
    ),
)


def read(folder: Path, name: str | None = None, photos: Path | None = None) -> Dataset:
    """Reads a folder in whichever layout it has.

    Args:
        folder: folder of the data set.
        name: name of the data set; made from the folder's or the files' name by default.
        photos: folder of pictures, where it is not in one of the usual places.

    Raises:
        DataError: the folder is missing, has no known layout, or cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: --data names the folder of a data set")
    for layout in LAYOUTS:
        if layout.recognises(folder):
            return layout.read(folder, name, photos)
    known = "; or ".join(layout.looks_like for layout in LAYOUTS)
    raise DataError(f"{folder} has no layout that can be read; looked for {known}")
