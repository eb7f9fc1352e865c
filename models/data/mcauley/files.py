"""Finds the pair of files of a data set by the names of the collections of 2014, 2018 and 2023."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from models.errors import DataError

_NAME = re.compile(r"(?P<kind>reviews_|meta_)?(?P<stem>.+?)(?P<core>_5)?\.jsonl?(?:\.gz)?")


@dataclass(frozen=True)
class Pair:
    """The two files of a data set.

    Attributes:
        name: name of the data set: X of the file names in lower case.
        reviews: ``reviews_X_5.json``, ``reviews_X.json`` (2014), ``X_5.json``, ``X.json`` (2018) or
            ``X.jsonl`` (2023), each also with ``.gz``.
        meta: ``meta_X.json`` or ``meta_X.jsonl``, each also with ``.gz``.
    """

    name: str
    reviews: Path
    meta: Path


def has_pair(folder: Path) -> bool:
    """Returns whether a folder has files of reviews and of products."""
    return all(_candidates(folder))


def the_pair(folder: Path) -> Pair:
    """Returns the one pair of files in a folder.

    Raises:
        DataError: there is none, or more than one.
    """
    reviews, meta = _candidates(folder)
    for found, usual in ((reviews, "file of reviews, reviews_X_5.json.gz,"), (meta, "meta_X.json.gz")):
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            raise DataError(f"{folder} must hold one {usual} and has {names}: one folder for each data set")
    match = _NAME.fullmatch(reviews[0].name)
    return Pair(match["stem"].lower() if match else folder.name.lower(), reviews[0], meta[0])


def _candidates(folder: Path) -> tuple[list[Path], list[Path]]:
    """Returns the files that may be of reviews, and those that may be of products."""
    named = {
        path: match
        for path in sorted(folder.iterdir())
        if (match := _NAME.fullmatch(path.name)) and path.is_file()
    }
    meta = [path for path, match in named.items() if match["kind"] == "meta_"]
    stems = {named[path]["stem"] for path in meta}
    reviews = [
        path
        for path, match in named.items()
        # Without a prefix, any name would do: the file of products says which one is meant.
        if match["kind"] == "reviews_" or (match["kind"] is None and match["stem"] in stems)
    ]
    return reviews, meta
