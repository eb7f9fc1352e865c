"""Copies files of a bundle into memory that no other process can shrink or change."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol

BLOCK_BYTES = 1 << 20
"""Bytes that are read and hashed at a time."""


class FileChangedError(Exception):
    """A file's contents are not those that its hash promises."""


class FileCopies(Protocol):
    """Copies a file, or finds a copy of the same contents that another process has."""

    def copy(self, source: int, sha256: str) -> memoryview:
        """Returns the contents of a file; they stay as they are, whatever becomes of the file.

        Args:
            source: descriptor of a regular file; it stays open.
            sha256: hexadecimal SHA-256 that the contents must have.

        Raises:
            FileChangedError: the file's contents have another one.
            OSError: the file cannot be read.
        """


class PrivateCopies:
    """Copies every file into memory of this process alone."""

    def copy(self, source: int, sha256: str) -> memoryview:
        """Returns the contents of a file, see ``FileCopies``."""
        size, at = os.fstat(source).st_size, 0
        content = mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux: all of it is read for every answer
            with suppress(OSError):
                content.madvise(mmap.MADV_HUGEPAGE)
        for block in checked_blocks(source, size, sha256):
            content[at : at + len(block)] = block
            at += len(block)
        return memoryview(content)[:size].toreadonly()


def checked_blocks(source: int, size: int, sha256: str) -> Iterator[bytes]:
    """Yields the contents of a file once, block by block.

    The blocks that were yielded are hashed, and the file is not read again: one that is replaced or changed
    meanwhile is found out.

    Args:
        source: descriptor of a regular file.
        size: bytes of the file; fewer are yielded if it shrinks, and never more.
        sha256: hexadecimal SHA-256 that the contents must have.

    Raises:
        FileChangedError: the blocks had another one; raised after the last block.
        OSError: the file cannot be read.
    """
    digest, at = hashlib.sha256(), 0
    # By position: another process that has the descriptor may read it too.
    while at < size and (block := os.pread(source, min(BLOCK_BYTES, size - at), at)):
        digest.update(block)
        yield block
        at += len(block)
    if digest.hexdigest() != sha256:
        raise FileChangedError
