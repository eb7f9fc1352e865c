"""Reads the vectors of a backbone from its file into memory that stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.contracts import BundleError
from models.contracts.arrays import MAX_HEADER, check_header
from models.contracts.files import UNREAD, changed, open_regular
from service.catalogue.file_copies import FileChangedError, FileCopies
from service.catalogue.finite import check_finite


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
            content = copies.copy(file.fileno(), sha256)
        except FileChangedError as error:
            raise changed(path) from error
        except OSError as error:
            raise BundleError(f"{path} cannot be read ({error.strerror}): {UNREAD}") from error
    try:
        header = check_header(content[:MAX_HEADER], len(content), "<f4", (rows, dimension))
    except ValueError as error:
        raise BundleError(f"{path}: {error}: export it again") from error
    vectors = np.frombuffer(content, np.float32, offset=header.offset).reshape(rows, dimension)
    check_finite(path, vectors)
    return vectors
