"""Defines an item, and writes and reads the lines of ``items.jsonl`` (standard library only)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from models.contracts.errors import BundleError, quoted
from models.contracts.ids import id_problem
from models.contracts.json_objects import parse_object
from models.contracts.names import is_file_name, is_sha256

MAX_LINE = 2**18
"""Bytes of an item's line at most."""


@dataclass(frozen=True, slots=True)
class Item:
    """One product of the catalogue.

    Attributes:
        item_id: public id (an ASIN on Amazon data).
        title: title with HTML entities decoded; None where the data have none.
        categories: categories from general to specific.
        keywords: words that a program has made, for data sets without titles; None without any.
        image: file name below ``catalogue/images``; None without a picture.
        image_sha256: hexadecimal SHA-256 of that file, which cache keys hold; None without a picture.
    """

    item_id: str
    title: str | None = None
    categories: tuple[str, ...] = ()
    keywords: str | None = None
    image: str | None = None
    image_sha256: str | None = None

    @property
    def name(self) -> str:
        """Name of the item in texts: its title, else its keywords, else its categories, else its id."""
        return self.title or self.keywords or ", ".join(self.categories) or self.item_id

    def to_json(self) -> dict[str, Any]:
        """Returns the item's line of ``items.jsonl`` as JSON, empty fields left out."""
        return {key: value for key, value in asdict(self).items() if value not in (None, (), "")}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Item:
        """Makes an item of the JSON of a line of ``items.jsonl``.

        Raises:
            ValueError: a field is missing, has another type, or a path, a prompt or an answer could not hold
                it; the message says which.
        """
        get = record.get
        categories = get("categories", ())
        if not isinstance(categories, list | tuple):
            raise ValueError(f"item {quoted(get('item_id'))}: categories must be a list of texts")
        # The types of the others are checked with everything else.
        item_id: Any = get("item_id")
        item = cls(
            item_id, get("title"), tuple(categories), get("keywords"), get("image"), get("image_sha256")
        )
        if (problem := item_problem(item)) is not None:
            raise ValueError(problem)
        return item


def item_problem(item: Item) -> str | None:
    """Returns why a bundle cannot hold an item; None if it can. The types of its fields are looked at too."""
    item_id, image, digest = item.item_id, item.image, item.image_sha256
    problem = id_problem(item_id) if isinstance(item_id, str) else "is not a text"
    if problem is not None:
        return f"the item id {quoted(item_id)} {problem}"
    optional = (item.title, item.keywords, image, digest)
    try:
        together = "".join([text for text in optional if text is not None] + [*item.categories])
        if not together.isascii():
            together.encode()
    except TypeError:
        return f"item {item_id}: title, keywords, image, image_sha256 and categories must be texts"
    except UnicodeEncodeError:
        return f"item {item_id} holds half of a surrogate pair, which UTF-8 cannot encode"
    if image and not is_file_name(image):
        return f"item {item_id}: image must be the name of a file in the folder images, not {quoted(image)}"
    if digest is not None and not is_sha256(digest):
        return f"item {item_id}: image_sha256 must be 64 lower-case hexadecimal digits"
    return None


def item_line(item: Item) -> bytes:
    """Returns an item's line of ``items.jsonl``.

    Raises:
        ValueError: a bundle cannot hold the item; the message says why.
    """
    if (problem := item_problem(item)) is not None:
        raise ValueError(problem)
    line = json.dumps(item.to_json(), ensure_ascii=False).encode() + b"\n"
    if len(line) > MAX_LINE:
        raise ValueError(f"item {item.item_id} has {len(line):,} bytes of text, more than {MAX_LINE:,}")
    return line


def read_items(stream: BinaryIO, path: Path) -> dict[str, Item]:
    """Reads the lines of ``items.jsonl``: item by item id, in the order of their rows.

    An item that is wrong is not left out: what a row is would change for all that follow.

    Args:
        stream: the file, open at its beginning.
        path: its path, for messages.

    Raises:
        BundleError: a line is no item, or an id is there twice; the message names the line.
    """
    items: dict[str, Item] = {}
    for number, line in enumerate(iter(partial(stream.readline, MAX_LINE + 1), b""), start=1):
        try:
            item = _parsed(line)
            if item.item_id in items:
                raise ValueError(f"the item id {item.item_id!r} was there before")
        except ValueError as error:
            raise BundleError(f"{path}, line {number}: {error}: make the catalogue again") from error
        items[item.item_id] = item
    return items


def _parsed(line: bytes) -> Item:
    if len(line) > MAX_LINE:
        raise ValueError(f"it has more than {MAX_LINE:,} bytes")
    return Item.from_json(parse_object(line))
