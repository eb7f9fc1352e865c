"""Opens the files of a bundle: regular files alone, of a bounded size (standard library only)."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from models.contracts.errors import BundleError

AGAIN = "copy the bundle again, or make it again"
"""What to do about a file that is not as it was written."""

UNREAD = "see to that, or copy the bundle again"
"""What to do about a file that the system does not read; its reason stands before."""


def open_regular(path: Path, limit: int) -> BufferedReader:
    """Opens a regular file for reading; a named pipe or a device would keep the reader waiting.

    Args:
        path: file, or a link to one.
        limit: bytes that the file may have.

    Raises:
        BundleError: it is missing, cannot be opened, is something else or larger; the message says so.
    """
    try:
        stream = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - the caller closes it
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing: {AGAIN}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = "it is a folder" if path.is_dir() else getattr(error, "strerror", None) or str(error)
        raise BundleError(f"{path} cannot be opened ({why}): {UNREAD}") from error
    found = os.fstat(stream.fileno())
    if not stat.S_ISREG(found.st_mode):
        stream.close()
        raise BundleError(f"{path} is not a regular file: {AGAIN}")
    if found.st_size > limit:
        stream.close()
        raise BundleError(f"{path} has {found.st_size:,} bytes, more than the {limit:,} it can need: {AGAIN}")
    return stream


def read_regular(path: Path, limit: int) -> bytes:
    """Reads a whole regular file of at most ``limit`` bytes.

    Raises:
        BundleError: see ``open_regular``; or the file cannot be read.
    """
    with open_regular(path, limit) as stream:
        try:
            # Of a file that grows meanwhile no more than was looked at.
            return stream.read(os.fstat(stream.fileno()).st_size)
        except OSError as error:
            raise BundleError(f"{path} cannot be read ({error.strerror}): {UNREAD}") from error


def read_hashed(path: Path, digest: str, limit: int) -> bytes:
    """Reads a file whose hash a manifest has; what is returned are the bytes that were hashed.

    Raises:
        BundleError: see ``read_regular``; or the hash is another one.
    """
    content = read_regular(path, limit)
    if hashlib.sha256(content).hexdigest() != digest:
        raise changed(path)
    return content


@contextmanager
def open_hashed(path: Path, digest: str, limit: int) -> Iterator[BufferedReader]:
    """Opens a file whose hash a manifest has, for one that is too large to be kept whole.

    Yields:
        The file, open at its beginning.

    Raises:
        BundleError: see ``open_regular``; or the hash is another one, or the file cannot be read.
    """
    with open_regular(path, limit) as stream:
        try:
            if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
                raise changed(path)
            stream.seek(0)
            yield stream
        except OSError as error:
            raise BundleError(f"{path} cannot be read ({error.strerror}): {UNREAD}") from error


def changed(path: Path) -> BundleError:
    """Returns the error for a file whose hash is not the one in the manifest."""
    return BundleError(f"{path} is not the file that was exported (its SHA-256 differs): {AGAIN}")


def sha256_of(path: Path) -> str:
    """Computes the hexadecimal SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has no such flag, and no such files
