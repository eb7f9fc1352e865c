r"""Reads and writes caption files, ``catalogue/captions/<captioner>.jsonl``.

A file holds the captions of item images by one captioner (an LVLM, or the data set itself). It is append-only
and outside the catalogue's hashes, because captions are bought one by one after the catalogue was written.
The rules, which hold for training, for serving and for ``python -m service enhance`` alike:

- UTF-8, one JSON object a line. ``\r\n`` ends a line too, and blank lines are skipped.
- An object has the texts ``item_id`` and ``caption``; ``provider``, ``model``, ``prompt_version`` are empty
  when missing, and other fields are ignored.
- The last line about an item counts. A line with a blank caption removes the item's caption.
- A last line that lacks its newline counts if it is a whole caption. Otherwise a crash tore it: readers leave
  it out, and the writer removes it before it appends.
- Any other line that is not a caption is left out, named in the log and counted; the writer leaves it where
  it is. Where these are more than ``models.contracts.limits`` bears, the file is damaged: ``BundleError``.
- A caption has at most 16,384 characters and a line 262,144 bytes. The writer cuts a longer caption.
- A file that is named as no captioner can be, is left out too, and so is every file beyond the 64th.
"""

from __future__ import annotations

import codecs
import json
import logging
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from models.contracts.errors import BundleError
from models.contracts.files import open_regular
from models.contracts.json_objects import parse_object
from models.contracts.limits import borne
from models.contracts.names import CAPTIONS, is_captioner_name
from models.contracts.one_writer import BusyError, open_locked

log = logging.getLogger(__name__)

SUFFIX = ".jsonl"  # of a caption file; what comes before it is the captioner's name

MAX_CAPTION = 2**14
"""Characters of a caption at most; prompts show 400 of them."""

MAX_LINE = 2**18
"""Bytes of a line at most: a caption's, each character of it escaped, and what stands beside it."""

MAX_FILE = 2**34
"""Bytes of a caption file at most."""

MAX_CAPTIONERS = 64
"""Captioners of a catalogue at most; readers leave out the files of further ones."""

LOGGED = 3
"""Lines of a file that are no captions and are logged one by one; further ones are only counted."""

LOCK_INTERVAL = 0.1
"""Seconds between attempts to lock a file that another process has locked."""


@dataclass(frozen=True, slots=True)
class Caption:
    """One LVLM's description of one item image: a line of ``captions/<captioner>.jsonl``.

    Attributes:
        item_id: public id of the item.
        provider: name of the provider; ``dataset`` for a caption that came with the data.
        model: name of the provider's model.
        prompt_version: version of the prompt that asked for it; ``dataset`` if unknown.
        caption: text, never blank when it comes from a reader.
    """

    item_id: str
    provider: str
    model: str
    prompt_version: str
    caption: str


def caption_path(catalogue: Path, captioner: str) -> Path:
    """Returns the path of a captioner's file below a catalogue's folder."""
    return catalogue / CAPTIONS / f"{captioner}{SUFFIX}"


def caption_files(catalogue: Path) -> dict[str, Path]:
    """Returns the caption files below a catalogue's folder by captioner, sorted by name.

    Files whose names no captioner can have are left out, and so are those beyond ``MAX_CAPTIONERS``; the log
    names them.
    """
    paths = sorted((catalogue / CAPTIONS).glob(f"*{SUFFIX}"))
    fit = [path for path in paths if is_captioner_name(path.stem)]
    left_out = [path for path in paths if not is_captioner_name(path.stem)] + fit[MAX_CAPTIONERS:]
    if left_out:
        log.warning(
            "caption files left out: %d (first: %r): a captioner's name is made of letters, digits, '.', '_' "
            "and '-', and a catalogue has %d captioners at most",
            len(left_out),
            str(left_out[0]),
            MAX_CAPTIONERS,
        )
    return {path.stem: path for path in fit[:MAX_CAPTIONERS]}


def captions_by_row(catalogue: Path, rows: Mapping[str, int]) -> dict[str, dict[int, str]]:
    """Reads all caption files of a catalogue: caption by captioner and item row.

    Training and serving both read captions through this function. Captions of items outside the catalogue are
    left out.

    Args:
        catalogue: folder of the catalogue.
        rows: row by item id.

    Raises:
        BundleError: a file is damaged.
    """
    return {
        captioner: {
            rows[item_id]: each.caption for item_id, each in read_captions(path).items() if item_id in rows
        }
        for captioner, path in caption_files(catalogue).items()
    }


def read_captions(path: Path) -> dict[str, Caption]:
    """Reads one caption file without changing it: the caption that counts by item id; empty without a file.

    Raises:
        BundleError: it is not a regular file, cannot be read, or has too many lines that are no captions.
    """
    if not os.path.lexists(path):
        return {}
    with open_regular(path, MAX_FILE) as stream:
        return _read(stream, path).latest


def write_captions(path: Path, captions: Iterable[Caption]) -> None:
    """Writes a whole caption file anew, one line each, in the given order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(_line, captions)))


_NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # for the other end of a named pipe; Windows has neither


class CaptionFile:
    """A caption file that is open for appending, by one process at a time.

    A last line that a crash has torn is removed on opening. ``append`` returns when the disk has the
    captions.

    Args:
        path: file, created with its folder if it is missing.
        patience: seconds to wait for another process that has the file open; 0 to give up at once.
        waiting: function that is called once, when the wait begins.

    Attributes:
        path: path of the file.
        latest: caption that counts by item id, as ``read_captions`` would return it.

    Raises:
        BundleError: another process still has the file open after ``patience``, the file cannot be opened, or
            has too many lines that are no captions.
    """

    def __init__(self, path: Path, patience: float = 0.0, waiting: Callable[[], None] = lambda: None) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = _opened(path, patience, waiting)
        except OSError as error:
            raise BundleError(f"{path} cannot be written ({error.strerror}): see to its folder") from error
        try:
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                raise BundleError(f"{path} is not a regular file: remove it")
            self.latest = self._repair()
        except BaseException:
            os.close(self._descriptor)
            raise

    def append(self, *captions: Caption) -> None:
        """Writes one line each, all of them or none, and waits until the disk has them.

        Raises:
            OSError: the disk did not take them; the file is as before.
        """
        lines = [_line(caption) for caption in captions]
        self._append(b"".join(lines))
        for line in lines:  # parsed again, so that ``latest`` is what a reader of the file sees
            _keep(self.latest, _parse(line))

    def __enter__(self) -> CaptionFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A run that was refused or got no caption leaves no captioner behind.
        if not os.fstat(self._descriptor).st_size:
            self.path.unlink(missing_ok=True)
            with suppress(OSError):  # other captioners have files in it
                self.path.parent.rmdir()
        os.close(self._descriptor)  # gives the lock back too

    def _repair(self) -> dict[str, Caption]:
        # By the descriptor, which has the lock: the path may name another file by now.
        with open(self._descriptor, "rb", closefd=False) as stream:
            contents = _read(stream, self.path)
        os.ftruncate(self._descriptor, contents.size)
        if not contents.ended:
            self._append(b"\n")
        return contents.latest

    def _append(self, content: bytes) -> None:
        end = os.fstat(self._descriptor).st_size
        try:
            # One call, so that a reader finds at most the last line torn.
            written = os.write(self._descriptor, content)
            if written != len(content):
                raise OSError(f"only {written} of {len(content)} bytes fit into {self.path}")
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, end)
            raise


def _opened(path: Path, patience: float, waiting: Callable[[], None]) -> int:
    """Opens and locks a file that another process may have open for a while."""
    end, reported = time.monotonic() + patience, False
    while True:
        try:
            return open_locked(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _NO_WAITING)
        except BusyError as error:
            if time.monotonic() >= end:
                raise BundleError(str(error)) from error
        if not reported:
            waiting()
            reported = True
        time.sleep(LOCK_INTERVAL)


@dataclass(frozen=True, slots=True)
class _Contents:
    """Contents of a caption file.

    Attributes:
        latest: caption that counts, by item id.
        size: number of bytes before a torn last line, or of the whole file if no line is torn.
        ended: whether the last of these bytes is a newline, or there are none.
    """

    latest: dict[str, Caption]
    size: int
    ended: bool


def _read(stream: BinaryIO, path: Path) -> _Contents:
    latest: dict[str, Caption] = {}
    size, ended, damaged = 0, True, _Damage(path)
    for number, (line, length) in enumerate(_lines(stream, path), start=1):
        terminated = line.endswith(b"\n")
        if len(line) > MAX_LINE or line.strip():
            try:
                caption = _parse(line)
            except ValueError as error:
                if not terminated:
                    log.warning("%s, line %d: left out, for it is torn: %s", path, number, error)
                    break
                damaged.add(number, error)
            else:
                damaged.read += 1
                _keep(latest, caption)
                ended = terminated
        elif not terminated:
            break
        size += length
    damaged.check()
    return _Contents(latest, size, ended)


def _lines(stream: BinaryIO, path: Path) -> Iterator[tuple[bytes, int]]:
    r"""Yields every line and its length in bytes. A line ends with ``\n``, or is the last one.

    Of a line that is too long the middle is left out: it is longer than ``MAX_LINE`` all the same.
    """
    try:
        while line := stream.readline(MAX_LINE + 1):
            length, last = len(line), line
            while (
                len(last) > MAX_LINE and not last.endswith(b"\n") and (last := stream.readline(MAX_LINE + 1))
            ):
                length += len(last)
            yield line if last is line else line + last[-1:], length
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}): see to its disk") from error


@dataclass(slots=True)
class _Damage:
    """Counts the lines of a file that are no captions, and says when they are too many.

    Attributes:
        path: file.
        read: number of lines so far that are not blank.
        number: number of those that are no captions.
        first: first of them, and what is wrong with it.
    """

    path: Path
    read: int = 0
    number: int = 0
    first: str = ""

    def add(self, line: int, error: ValueError) -> None:
        self.read += 1
        self.number += 1
        self.first = self.first or f"line {line}: {error}"
        if self.number <= LOGGED:
            log.warning("%s, line %d: left out, for it is not a caption: %s", self.path, line, error)

    def check(self) -> None:
        if self.number > borne(self.read):
            raise BundleError(
                f"{self.path}: {self.number:,} of {self.read:,} lines are not a caption (first: "
                f"{self.first}): remove them, or the file"
            )
        if self.number > LOGGED:
            log.warning("%s: %d lines are left out, for they are not captions", self.path, self.number)


def _keep(latest: dict[str, Caption], caption: Caption) -> None:
    if caption.caption.strip():
        latest[caption.item_id] = caption
    else:
        latest.pop(caption.item_id, None)


def _parse(line: bytes) -> Caption:
    """Reads one line.

    Raises:
        ValueError: it is not a caption; the message says why.
    """
    if len(line) > MAX_LINE:
        raise ValueError(f"it has more than {MAX_LINE:,} bytes")
    # Some editors begin a file with a byte order mark, and `cat` then leaves one at the start of a line.
    record = parse_object(line.removeprefix(codecs.BOM_UTF8))
    caption = _text(record, "caption")
    if len(caption) > MAX_CAPTION:
        raise ValueError(f"its caption has {len(caption):,} characters, more than {MAX_CAPTION:,}")
    return Caption(
        item_id=_text(record, "item_id"),
        # Where a caption came from is for the reader; a number or null there makes the caption no worse.
        provider=str(record.get("provider") or ""),
        model=str(record.get("model") or ""),
        prompt_version=str(record.get("prompt_version") or ""),
        caption=_mended(caption),
    )


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a text")
    return value


def _line(caption: Caption) -> bytes:
    # A caption was paid for: what no reader would take is cut off.
    record = {**asdict(caption), "caption": _mended(caption.caption[:MAX_CAPTION])}
    # An item id may hold a lone surrogate, which UTF-8 has no bytes for: it becomes its JSON escape.
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _mended(text: str) -> str:
    """Replaces every lone surrogate by a question mark: neither tokenizers nor providers accept one."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
