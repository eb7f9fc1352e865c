"""Reads files that are packed with gzip, and bounds what one may unpack to."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import BinaryIO, cast

from models.errors import DataError

UNPACKED_WITHOUT_DOUBT = 32 << 20
"""Bytes that any packed file may unpack to."""

UNPACKED_RATIO = 200
"""Unpacked bytes per packed byte beyond ``UNPACKED_WITHOUT_DOUBT``: texts of people have less than 20, a file
made to fill a disk has 1,000."""

GZIP = b"\x1f\x8b"
"""First bytes of a file that is packed with gzip."""


def unpacked(raw: BinaryIO, path: Path) -> BinaryIO:
    """Returns a file itself, or what it unpacks to; its contents tell which, never its name.

    Reading raises OSError, EOFError or zlib.error where the file is damaged, and DataError where it unpacks
    to far more than texts do.

    Args:
        raw: file, open at its beginning.
        path: its path, for messages.
    """
    packed = raw.read(len(GZIP)) == GZIP
    raw.seek(0)
    return cast(BinaryIO, _Unpacked(raw, path)) if packed else raw


class _Unpacked(gzip.GzipFile):
    def __init__(self, raw: BinaryIO, path: Path) -> None:
        super().__init__(fileobj=raw)
        self._path = path
        self._most = max(UNPACKED_WITHOUT_DOUBT, UNPACKED_RATIO * os.fstat(raw.fileno()).st_size)

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        if self.tell() > self._most:
            raise DataError(
                f"{self._path} unpacks to more than {UNPACKED_RATIO} times its size, as no texts do: fetch "
                "it again"
            )
        return content
