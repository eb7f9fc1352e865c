"""Opens the file of a table by its contents: unpacks it, finds its encoding, and says if it is no table."""

from __future__ import annotations

import io
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from models.data.packed import unpacked
from models.errors import DataError

PARQUET = b"PAR1"
"""First bytes of a Parquet file."""

_FOREIGN = (
    (b"PK\x03\x04", "an Excel workbook or a ZIP archive", "save the table as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the table as CSV"),
    (b"SQLite format 3", "an SQLite database", "write the table out as CSV"),
    (b"BZh", "packed with bzip2", "unpack it"),
    (b"\xfd7zXZ", "packed with xz", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", "unpack it"),
    (b"%PDF", "a PDF", "name a table"),
    (b"<!DOCTYPE", "a web page", "fetch the table itself"),
    (b"<html", "a web page", "fetch the table itself"),
    (b"<?xml", "XML", "write the table out as CSV"),
)
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))

_HEAD = 1 << 16  # bytes that are looked at to tell what a file is
_LARGE = 16 << 20  # bytes from which a file is worth a progress bar

# A byte that is no UTF-8 becomes half of a surrogate pair; a unit that is no UTF-16 becomes U+FFFD.
_BROKEN = {"utf-8-sig": re.compile("[\udc80-\udcff]"), "utf-16": re.compile("\ufffd")}


@dataclass(frozen=True)
class OpenText:
    """The text of a file while it is read.

    Attributes:
        stream: characters; line ends are kept as they are.
        encoding: encoding that it is read in.
        advance: function that shows how far the file has been read; call it now and then.
    """

    stream: TextIO
    encoding: str
    advance: Callable[[], None]

    def is_broken(self, text: str) -> bool:
        """Returns whether the text holds what is not of the file's encoding."""
        return not text.isascii() and _BROKEN[self.encoding].search(text) is not None


def starts_with(path: Path, magic: bytes) -> bool:
    """Returns whether a file begins with these bytes.

    Raises:
        DataError: it is missing, is a folder, or cannot be read.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder: name the file of the table")
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is a pipe or a device: a table is read twice, so save it as a file")
    try:
        with path.open("rb") as stream:
            return stream.read(len(magic)) == magic
    except FileNotFoundError:
        raise DataError(f"{path} is missing: name the file of the table") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error


def check_packed(path: Path) -> None:
    """Reads a packed file once without looking at it: a bomb's rows would last minutes before its size tells.

    Raises:
        DataError: it cannot be read to its end, or unpacks to far more than texts do.
    """
    with path.open("rb") as raw, _refused(path), unpacked(raw, path) as stream:
        while stream is not raw and stream.read(1 << 20):
            continue


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, UnicodeError) as error:
        raise DataError(f"{path} cannot be read to its end ({error}): fetch or unpack it again") from error


@contextmanager
def open_text(path: Path) -> Iterator[OpenText]:
    """Opens a file as text: UTF-8, or UTF-16 with its mark; as it is or packed with gzip.

    Raises:
        DataError: it is no text, is empty, or (in the block) cannot be read to its end.
    """
    with ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        stack.enter_context(_refused(path))
        buffered = io.BufferedReader(cast(io.RawIOBase, unpacked(raw, path)), _HEAD)
        encoding = _encoding(buffered.peek(_HEAD)[:_HEAD], path)
        errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
        text = io.TextIOWrapper(buffered, encoding=encoding, errors=errors, newline="")
        yield OpenText(text, encoding, _progress(raw, path, stack))


def _encoding(head: bytes, path: Path) -> str:
    if not head.strip(b"\xef\xbb\xbf \t\r\n"):
        raise DataError(f"{path} is empty: a line of column names and the rows of the table belong there")
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    start = head.lstrip()[:20].lower()
    for magic, what, remedy in _FOREIGN:
        if start.startswith(magic.lower()):
            raise DataError(f"{path} is {what}: {remedy}")
    if head.startswith(PARQUET):
        raise DataError(f"{path} is a Parquet file that was packed once more: unpack it")
    for first, order in ((1, "LE"), (0, "BE")):
        zeros = head[first::2]
        if len(zeros) > 2 and zeros.count(0) > 0.4 * len(zeros):
            raise DataError(
                f"{path} seems to be UTF-16 without its mark: convert it with "
                f"`iconv -f UTF-16{order} -t UTF-8`"
            )
    if head.count(0) > max(10, len(head) / 100):
        raise DataError(f"{path} is no text: a table is CSV, TSV, JSON, JSON Lines or Parquet")
    return "utf-8-sig"


def _progress(raw: BinaryIO, path: Path, stack: ExitStack) -> Callable[[], None]:
    size = os.fstat(raw.fileno()).st_size
    if size < _LARGE or not sys.stderr.isatty():
        return lambda: None
    from tqdm import tqdm  # an extra, which a small table does without

    bar = stack.enter_context(tqdm(total=size, desc=path.name, unit="B", unit_scale=True, leave=False))

    def advance() -> None:
        bar.update(raw.tell() - bar.n)

    return advance
