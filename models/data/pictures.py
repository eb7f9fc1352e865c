"""Finds the pictures of a data set: its folder, and in it the file that an entry of the data means."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from models.contracts.picture import PictureError, open_picture, read_picture
from models.errors import DataError

KEYS = (
    *("imagepath", "path", "filepath", "file", "filename", "imagefile", "name"),
    *("hires", "imageurlhighres", "large", "largeimageurl", "imurl", "imageurl", "url", "src", "href"),
    *("medium", "mediumimageurl", "small", "smallimageurl", "thumb", "thumbnail"),
    *("image", "images", "picture", "pictures", "photo", "photos"),
)
"""Fields of an object that may name its picture, the best first: in lower case, without signs."""

CAPTIONS = "imagedescription"
"""Field of an object that may stand there without a picture."""

DEPTH = 8  # objects and lists within each other that are looked into


def find_pictures(folder: Path, name: str, asked: Path | None) -> Path | None:
    """Finds the folder of pictures: the one asked for, ``<data>/photos`` or ``<data>/../photos/<name>``.

    Raises:
        DataError: the folder that was asked for does not exist.
    """
    if asked is not None:
        if not asked.is_dir():
            raise DataError(f"{asked} is no folder: --pictures names the folder of item pictures")
        return asked
    usual = (
        folder / "photos",
        folder.parent / "photos" / folder.name,
        folder.parent / "photos" / name,
    )
    return next((pictures for pictures in usual if pictures.is_dir()), None)


class PictureFolder:
    """The files of a folder of pictures and of the folders in it, listed once, when the first is looked for.

    Only regular files whose real path is in the folder count: no links out of it, pipes or devices. Links to
    folders are not followed.

    Args:
        folder: folder; None for data without pictures.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def find(self, entry: object) -> str | None:
        """Finds the file that an entry of the data means.

        A path is looked for as it is; else without its first folders, one after the other, at last its name
        alone in the folder itself; else by its name anywhere below, if one file alone has it. Each is tried
        with the same letters first, then in any case and Unicode form, then with the extension of a picture
        added. In an address query and fragment are left away, and percent escapes are tried as they are and
        decoded. Of an object the fields in ``KEYS`` count, of a list all; of several files it is the first
        that can be opened.

        Args:
            entry: value of the field of pictures, of any type and shape: a name, a path, an address, an
                object or a list of them.

        Returns:
            Its path relative to the folder, with slashes; None if the folder has no such file.
        """
        found = list(dict.fromkeys(path for text in _texts(entry) if (path := self._file(text)) is not None))
        # Whether a picture can be opened matters only where there is a choice.
        return next(filter(self._opens, found), found[0]) if len(found) > 1 else next(iter(found), None)

    def problem(self, entry: object) -> str | None:
        """Says why ``find`` has no file for an entry, in the same words for the same kind of entry.

        Returns:
            The rest of a sentence about items; None where there is a file, or the entry names no picture
            (null, an empty text, list or object).
        """
        if _is_empty(entry) or self.find(entry) is not None:
            return None
        texts = list(_texts(entry))
        if not texts:
            return f"their picture is given in a form that is not read ({_form(entry)})"
        if self.folder is None:
            return "there is no folder of pictures (--pictures names one)"
        return self._reason(texts)

    def _reason(self, texts: list[str]) -> str:
        if all(text.lstrip()[:5].lower() == "data:" for text in texts):
            return "their picture stands in the data itself (data:), which is not read"
        if any(self._is_ambiguous(names[-1]) for text in texts for names in _paths(text)):
            return "several pictures have the name, and the path does not say which"
        if all(re.match(r"(?i)(https?:)?//", text.lstrip()) for text in texts):
            return "their picture is an address of the web and not in the folder of pictures"
        return "their picture is not in the folder of pictures"

    def _file(self, text: str) -> str | None:
        ways = list(_paths(text))
        if ways and (found := self._exactly(text)) is not None:  # a name may hold any sign
            return found
        for names in ways:
            for start in range(len(names)):
                if (found := self._same("/".join(names[start:]))) is not None:
                    return found
            if (found := self._only(names[-1])) is not None:
                return found
        return None

    def _exactly(self, path: str) -> str | None:
        return path if path in self._files and self._is_inside(path) else None

    def _only(self, name: str) -> str | None:
        """Returns the file of this name, if there is one alone, by the closest comparison that finds any."""
        folded = _folded(name)
        for among, key in ((self._by_name, name), (self._by_folded_name, folded), (self._by_stem, folded)):
            if files := [file for file in among.get(key, ()) if self._is_inside(file)]:
                return files[0] if len(files) == 1 else None
        return None

    def _same(self, path: str) -> str | None:
        if path in self._files:
            return self._exactly(path)
        for among in (self._by_folded_path, self._by_stem_path):
            files = [file for file in among.get(_folded(path), ()) if self._is_inside(file)]
            if len(files) == 1:
                return files[0]
        return None

    def _is_ambiguous(self, name: str) -> bool:
        folded = _folded(name)
        return len(self._by_folded_name.get(folded) or self._by_stem.get(folded, [])) > 1

    def _is_inside(self, path: str) -> bool:
        """Whether a listed file is regular and, if it is a link, leads to a regular file in the folder."""
        if not self._files[path]:
            return True
        assert self.folder is not None
        try:
            real = (self.folder / path).resolve(strict=True)
            return stat.S_ISREG(real.stat().st_mode) and real.is_relative_to(self.folder.resolve())
        except (OSError, RuntimeError):  # a link that leads nowhere, or in a circle
            return False

    def _opens(self, path: str) -> bool:
        assert self.folder is not None
        try:
            open_picture(read_picture(self.folder / path))
        except PictureError:
            return False
        return True

    @cached_property
    def _files(self) -> dict[str, bool]:
        """Paths of regular files and of links, and whether it is a link."""
        return dict(sorted(_listed(self.folder))) if self.folder else {}

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        return _grouped((path.rpartition("/")[2], path) for path in self._files)

    @cached_property
    def _by_folded_name(self) -> dict[str, list[str]]:
        return _grouped((_folded(path.rpartition("/")[2]), path) for path in self._files)

    @cached_property
    def _by_folded_path(self) -> dict[str, list[str]]:
        return _grouped((_folded(path), path) for path in self._files)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return _grouped((_stem(_folded(path.rpartition("/")[2])), path) for path in self._files)

    @cached_property
    def _by_stem_path(self) -> dict[str, list[str]]:
        return _grouped((_stem(_folded(path)), path) for path in self._files)


def _listed(folder: Path) -> Iterator[tuple[str, bool]]:
    waiting = [""]
    while waiting:
        within = waiting.pop()
        try:
            entries = os.scandir(folder / within)
        except OSError:  # a folder that may not be opened has no pictures for us
            continue
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{within}{entry.name}/")
                elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
                    yield within + entry.name, entry.is_symlink()


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, path in pairs:
        groups.setdefault(key, []).append(path)
    return groups


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _stem(path: str) -> str:
    return re.sub(r"\.(jpe?g|jpe|jfif|png|gif|webp|bmp)$", "", path)


def _texts(entry: object, depth: int = 0) -> Iterator[str]:
    """Yields the texts in an entry that may name its picture, the best first."""
    if isinstance(entry, os.PathLike):
        entry = os.fspath(entry)
    if isinstance(entry, str):
        if entry.strip():
            yield entry
    elif depth < DEPTH and isinstance(entry, Mapping):
        fields = _fields(entry)
        for key in KEYS:
            yield from _texts(fields.get(key), depth + 1)
    elif depth < DEPTH and isinstance(entry, (list, tuple)):
        for each in entry:
            yield from _texts(each, depth + 1)


def _paths(text: str) -> Iterator[list[str]]:
    """Yields the ways to read a text as a path, each as its names; nothing for a text that is no path."""
    text = text.strip()
    if text[:5].lower() == "data:":
        return
    ways = [text]
    if re.match(r"(?i)([a-z][a-z0-9+.-]+:)?//", text):
        try:
            ways = [urlsplit(text).path]
        except ValueError:  # such as an unfinished IPv6 address
            return
    elif "?" in text or "#" in text:
        ways.append(re.split(r"[?#]", text, maxsplit=1)[0])
    for way in dict.fromkeys(way for each in ways for way in (each, unquote(each))):
        names: list[str] = []
        for name in way.replace("\\", "/").split("/"):
            if name == "..":
                del names[-1:]  # at the top it stays there: no path leaves the folder
            elif name not in ("", "."):
                names.append(name)
        if names and "\0" not in way:
            yield names


def _fields(entry: Mapping[Any, object]) -> dict[str, object]:
    return {re.sub(r"[^a-z]", "", str(key).lower()): value for key, value in entry.items()}


def _is_empty(entry: object) -> bool:
    if isinstance(entry, str):
        return not entry.strip()
    if isinstance(entry, Mapping):
        fields = _fields(entry)
        # Beside the picture stands what is no picture, such as its width.
        known = [key for key in KEYS if key in fields] or [key for key in fields if key != CAPTIONS]
        return all(_is_empty(fields[key]) for key in known)
    return entry is None or (isinstance(entry, (list, tuple)) and all(map(_is_empty, entry)))


def _form(entry: object) -> str:
    if isinstance(entry, bool):
        return "true or false"
    if isinstance(entry, (int, float)):
        return "a number"
    return {"dict": "an object", "list": "a list"}.get(type(entry).__name__, "another value")
