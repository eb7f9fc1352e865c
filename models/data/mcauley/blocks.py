"""Reads a file block by block, packed with gzip or not, and bounds what it may unpack to."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from models.errors import DataError

BLOCK = 1 << 20
"""Bytes of a block at most."""

UNPACKED_WITHOUT_DOUBT = 32 << 20
"""Bytes that any packed file may unpack to."""

UNPACKED_RATIO = 200
"""Unpacked bytes per packed byte beyond ``UNPACKED_WITHOUT_DOUBT``: texts of people have less than 20, a file
made to fill a disk has 1,000."""

_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"

_OTHER_FORMATS = (
    (_GZIP, "is packed with gzip twice: unpack it once"),
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
        with path.open("rb") as file:
            packed = file.read(len(_GZIP)) == _GZIP
        with gzip.open(path) if packed else path.open("rb") as stream:
            most = max(UNPACKED_WITHOUT_DOUBT, UNPACKED_RATIO * path.stat().st_size) if packed else None
            head, total = True, 0
            while block := stream.read(BLOCK):
                total += len(block)
                if most is not None and total > most:
                    raise DataError(
                        f"{path} unpacks to more than {UNPACKED_RATIO} times its size, as no texts do: "
                        "fetch it again"
                    )
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
