"""Reads a file block by block, packed with gzip or not."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from models.data.packed import GZIP, unpacked
from models.errors import DataError

BLOCK = 1 << 20
"""Bytes of a block at most."""

_BOM = b"\xef\xbb\xbf"

_OTHER_FORMATS = (
    (GZIP, "is packed with gzip twice: unpack it once"),
    (b"PK\x03\x04", "is a zip archive: unpack it"),
    (b"BZh", "is packed with bzip2: unpack it"),
    (b"\xfd7zXZ\x00", "is packed with xz: unpack it"),
    (b"\x28\xb5\x2f\xfd", "is packed with zstd: unpack it"),
    (b"PAR1", "is a Parquet file: write it as lines of JSON"),
    (b"\xff\xfe", "is UTF-16 text: save it as UTF-8"),
    (b"\xfe\xff", "is UTF-16 text: save it as UTF-8"),
)
_WEB_PAGES = (b"<!doctype", b"<html", b"<?xml")


def read_blocks(path: Path) -> Iterator[bytes]:
    """Yields the contents of a file in blocks, unpacked, without a byte order mark.

    Whether the file is packed is told by its contents, never by its name.

    Raises:
        DataError: the file cannot be read to its end, unpacks to far more than texts do, or is of another
            format.
    """
    try:
        with path.open("rb") as raw, unpacked(raw, path) as stream:
            head = True
            while block := stream.read(BLOCK):
                if head:
                    _refuse_other_formats(block, path)
                    block, head = block.removeprefix(_BOM), False
                yield block
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read to its end ({error}): fetch it again") from error


def _refuse_other_formats(head: bytes, path: Path) -> None:
    for beginning, what in _OTHER_FORMATS:
        if head.startswith(beginning):
            raise DataError(f"{path} {what}")
    if head[:1000].removeprefix(_BOM).lstrip()[:10].lower().startswith(_WEB_PAGES):
        raise DataError(f"{path} is a web page and holds no records: fetch it again")
