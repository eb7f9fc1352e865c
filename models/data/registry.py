"""Picks the reader for a folder by the files in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.data import amazon, amazon_plus
from models.data.dataset import Dataset
from models.data.report import ReadingReport
from models.data.tables import recbole
from models.errors import DataError


@dataclass(frozen=True)
class Layout:
    """One way to lay a data set out in a folder.

    Attributes:
        looks_like: description of its files, for the message when no layout fits.
        recognises: function of a folder to whether it has this layout.
        read: function of folder, name or None, folder of pictures or None, and report; it returns the data
            set.
    """

    looks_like: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, str | None, Path | None, ReadingReport], Dataset]


LAYOUTS = (
    Layout(
        "datamaps.json, item2side.json and sequential.txt or purchase_history.pkl (Amazon Review Plus)",
        amazon_plus.recognises,
        amazon_plus.read,
    ),
    Layout(
        "reviews_X_5.json.gz, reviews_X.json.gz, X_5.json.gz, X.json.gz or X.jsonl.gz, and meta_X of the "
        "same ending beside it (McAuley's original files)",
        amazon.recognises,
        amazon.read,
    ),
    Layout("x.inter, with or without x.item (RecBole's atomic files)", recbole.recognises, recbole.read),
)


def read(
    folder: Path, name: str | None = None, pictures: Path | None = None, max_left_out: float | None = None
) -> Dataset:
    """Reads a folder in whichever layout it has.

    Args:
        folder: folder of the data set.
        name: name of the data set; made from the folder's or the files' name by default.
        pictures: folder of pictures, where it is not in one of the usual places.
        max_left_out: share of the records of one kind that may be left out; None for the default
            (``models.data.report``).

    Raises:
        DataError: the folder is missing, has no known layout, cannot be read, or too much would be left out.
    """
    if not folder.is_dir():
        hint = ", and `models data --interactions` reads a table" if folder.is_file() else ""
        raise DataError(f"{folder} is no folder: --data names the folder of a data set{hint}")
    for layout in LAYOUTS:
        if layout.recognises(folder):
            report = ReadingReport(max_left_out)
            dataset = layout.read(folder, name, pictures, report)
            report.check()
            return dataset
    known = "; or ".join(layout.looks_like for layout in LAYOUTS)
    raise DataError(f"{folder} has no layout that can be read; looked for {known}")
