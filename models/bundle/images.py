"""Copies the pictures of a data set into ``catalogue/images/``, which is one flat folder."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from models.contracts import Item
from models.contracts.picture import PictureError, open_picture, read_picture
from models.data.dataset import Dataset

MAX_NAME = 200
"""Bytes of a file's name; file systems take 255, and a draft of a file needs some more."""


@dataclass(frozen=True)
class _Copied:
    name: str
    digest: str


def copy_images(dataset: Dataset, folder: Path | None) -> tuple[Item, ...]:
    """Copies the pictures that can be opened; what cannot be opened is left out, and the report counts it.

    A file keeps its name if no picture of another folder has the same; else a part of its digest joins the
    name, as it does where a name is too long or has characters that other systems refuse.

    Args:
        dataset: items, and the folder that ``Item.image`` is relative to.
        folder: folder to make and fill; None to see only which pictures can be opened.

    Returns:
        The items with the names and digests of the copies, or without a picture.
    """
    if folder is not None:
        folder.mkdir()
    users = Counter(item.image for item in dataset.items if item.image)
    shared = Counter(PurePosixPath(path).name for path in users)
    copies: dict[str, _Copied | None] = {}
    digest_of: dict[str, str] = {}
    for path, number in users.items():
        try:
            # Read once: what is checked, hashed and written are the same bytes.
            content = _read(dataset, path)
        except PictureError as error:
            place = f"{path} ({error})".encode(errors="backslashreplace").decode()
            dataset.report.change("items", "their picture cannot be opened: they have none", place, number)
            copies[path] = None
            continue
        digest = hashlib.sha256(content).hexdigest()
        name = _name(path, digest, shared, digest_of)
        if name not in digest_of:
            digest_of[name] = digest
            if folder is not None:
                (folder / name).write_bytes(content)
        copies[path] = _Copied(name, digest)
    return tuple(_with_copy(item, copies.get(item.image or "")) for item in dataset.items)


def _read(dataset: Dataset, path: str) -> bytes:
    if dataset.images is None:
        raise PictureError("the data have no folder of pictures")
    content = read_picture(dataset.images / path)
    open_picture(content)
    return content


def _name(path: str, digest: str, shared: Counter[str], digest_of: dict[str, str]) -> str:
    plain = PurePosixPath(path).name
    safe = "".join(sign if sign.isprintable() and sign != "\\" else "-" for sign in plain)
    fits = safe == plain and len(plain.encode()) <= MAX_NAME
    if fits and shared[plain] == 1 and digest_of.get(plain, digest) == digest:
        return plain
    ending = re.search(r"\.\w{1,8}$", safe, re.ASCII)
    suffix = ending.group() if ending else ""
    stem = safe.removesuffix(suffix).encode()[: MAX_NAME // 2].decode(errors="ignore")
    short = f"{stem}-{digest[:12]}{suffix}"
    return short if digest_of.get(short, digest) == digest else f"{stem}-{digest}{suffix}"


def _with_copy(item: Item, copied: _Copied | None) -> Item:
    if copied is None:
        return replace(item, image=None, image_sha256=None)
    return replace(item, image=copied.name, image_sha256=copied.digest)
