"""Saves matrices of numbers as ``.npy`` files, and reads them back with suspicion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.atomic import new_file

Floats = NDArray[np.float32]


def save_matrix(path: Path, values: NDArray[Any]) -> None:
    """Saves a matrix, or any array, under a temporary name, then renames the file.

    Raises:
        WriteError: the file cannot be written.
        BusyError: another process is writing it.
    """
    with new_file(path) as stream:
        np.save(stream, values)


def read_matrix(path: Path, rows: int | None = None) -> Floats:
    """Reads a matrix, float32 [rows, columns].

    Args:
        path: file that ``save_matrix`` wrote.
        rows: number of rows that it must have; None for any.

    Raises:
        ValueError: the file is missing or damaged, or holds something else; the message says what.
    """
    return np.array(map_array(path, rows, np.dtype(np.float32), dimensions=2))


def map_array(path: Path, rows: int | None, kind: np.dtype[Any], dimensions: int) -> NDArray[Any]:
    """Maps an array into memory, which is read from the disk only where it is used.

    What is written to the array stays in memory, so that torch, which knows no read-only arrays, can take it.

    Args:
        path: file that ``save_matrix`` wrote.
        rows: size of the first dimension that it must have; None for any.
        kind: type of the numbers that it must have.
        dimensions: number of dimensions that it must have.

    Raises:
        ValueError: the file is missing or damaged, or holds something else; the message says what.
    """
    try:
        # Mapped, so that a header that claims more than the file holds takes no memory; no pickle is run.
        mapped = np.load(path, mmap_mode="c", allow_pickle=False)
    except FileNotFoundError:
        raise ValueError("it is missing") from None
    except Exception as error:  # a damaged header raises nearly anything
        raise ValueError("it is damaged") from error
    if not isinstance(mapped, np.ndarray) or mapped.dtype != kind or mapped.ndim != dimensions:
        shape = "matrix" if dimensions == 2 else f"array of {dimensions} dimensions"
        raise ValueError(f"it holds no {shape} of {8 * kind.itemsize}-bit numbers")
    if rows is not None and len(mapped) != rows:
        raise ValueError(f"it has {len(mapped):,} rows in place of {rows:,}")
    return mapped
