"""Reads the vectors of a backbone from its file into memory that stays as it is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.contracts import BundleError
from models.contracts.arrays import MAX_HEADER, check_header
from models.contracts.files import AGAIN, changed, open_regular
from service.catalogue.file_copies import FileChangedError, FileCopies

BLOCK = 2**20
"""Numbers that are looked at together, about."""


def read_vectors(
    path: Path, sha256: str, rows: int, dimension: int, copies: FileCopies
) -> NDArray[np.float32]:
    """Reads vectors, float32 [rows, dimension], not writable.

    They are copied and not mapped: a mapped file that is truncated ends the process that reads it (SIGBUS).

    Args:
        path: file in NumPy's format.
        sha256: hexadecimal SHA-256 of the file, from the manifest; the bytes that are kept have it.
        rows: number of vectors that the file must hold.
        dimension: numbers of each vector.
        copies: makes the copy, which processes may share.

    Raises:
        BundleError: the file is missing, is not the one that was exported, or holds something else.
    """
    with open_regular(path, MAX_HEADER + rows * dimension * 4) as file:
        try:
            if not os.fstat(file.fileno()).st_size:
                raise BundleError(f"{path} is empty: {AGAIN}")
            content = copies.copy(file.fileno(), sha256)
        except FileChangedError as error:
            raise changed(path) from error
        except OSError as error:
            raise BundleError(f"{path} cannot be read ({error.strerror}): {AGAIN}") from error
    try:
        header = check_header(content[:MAX_HEADER], len(content), "<f4", (rows, dimension))
    except ValueError as error:
        raise BundleError(f"{path}: {error}: export it again") from error
    vectors = np.frombuffer(content, np.float32, offset=header.offset).reshape(rows, dimension)
    _check_finite(path, vectors)
    return vectors


def _check_finite(path: Path, vectors: NDArray[np.float32]) -> None:
    """Checks vectors [rows, d], of a file that may be far larger than the memory.

    Raises:
        BundleError: one is infinite or NaN; the message names the file and the first row.
    """
    rows = max(1, BLOCK // vectors.shape[1])
    for start in range(0, len(vectors), rows):
        finite = np.isfinite(vectors[start : start + rows])
        if not finite.all():
            row = start + int(np.argmin(finite.all(axis=1)))
            raise BundleError(
                f"{path}, row {row}: it holds what is not a number: train again with a lower learning rate, "
                "and export it again"
            )
