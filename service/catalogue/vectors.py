"""Reads the vectors of a backbone from its file into memory that stays as it is."""

from __future__ import annotations

import io
import math
import os
import stat
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from models.contracts import BundleError
from service.catalogue.file_copies import FileChangedError, FileCopies

MAX_HEADER_BYTES = 10_000
"""Bytes before the numbers at most; NumPy writes 128."""


def read_vectors(
    path: Path, sha256: str, rows: int, dimension: int, copies: FileCopies
) -> NDArray[np.float32]:
    """Reads vectors, float32 [rows, dimension], not writable.

    They are copied and not mapped: a mapped file that is truncated ends the process that reads it (SIGBUS).

    Args:
        path: file in NumPy's format.
        sha256: hexadecimal SHA-256 of the file, from the manifest; the copy is checked, not the file.
        rows: number of vectors that the file must hold.
        dimension: numbers of each vector.
        copies: copies of files, which processes may share.

    Raises:
        BundleError: the file is missing, is not the one that was exported, or holds something else.
    """
    expected = 4 * rows * dimension
    try:
        # Not to wait for a writer if it is a pipe.
        source = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing: export it again") from error
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}; export it again") from error
    try:
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{path} is not a file: export it again")
        # Before memory is taken for it.
        if not 0 < status.st_size <= expected + MAX_HEADER_BYTES:
            raise BundleError(
                f"{path} has {status.st_size} bytes, expected float32 {(rows, dimension)}: export it again"
            )
        content = copies.copy(source, sha256)
    except FileChangedError as error:
        raise BundleError(
            f"{path} is not the file that was exported (its SHA-256 differs): export it again"
        ) from error
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}; export it again") from error
    finally:
        os.close(source)
    return _as_array(content, path, (rows, dimension))


def _as_array(content: memoryview, path: Path, expected: tuple[int, int]) -> NDArray[np.float32]:
    stream = io.BytesIO(content[:MAX_HEADER_BYTES])
    try:
        version = npy.read_magic(stream)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, by_columns, dtype = read_header(stream)
    except ValueError as error:
        raise BundleError(f"{path} is not in NumPy's format: export it again") from error
    at = stream.tell()
    if shape != expected or dtype != np.float32 or by_columns or len(content) - at != 4 * math.prod(expected):
        raise BundleError(f"{path} is {dtype} {shape}, expected float32 {expected}: export it again")
    return np.frombuffer(content, np.float32, offset=at).reshape(expected)
