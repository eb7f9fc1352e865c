"""Saves arrays of numbers as ``.npy`` files, and reads them back with suspicion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.atomic import new_file

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]


def save_matrix(path: Path, values: Floats | Halves) -> None:
    """Saves an array under a temporary name, then renames the file.

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
    mapped = _mapped(path, rows)
    if mapped.dtype != np.float32 or mapped.ndim != 2:
        raise ValueError("it holds no matrix of 32-bit numbers")
    return np.array(mapped)


def map_states(path: Path, rows: int) -> Halves:
    """Maps hidden states, float16 [rows, layers, columns], so that the file is read where it is looked at.

    Args:
        path: file that ``save_matrix`` wrote.
        rows: number of rows that it must have.

    Returns:
        The mapped array; what is written to it stays in memory.

    Raises:
        ValueError: the file is missing or damaged, or holds something else; the message says what.
    """
    mapped = _mapped(path, rows)
    if mapped.dtype != np.float16 or mapped.ndim != 3:
        raise ValueError("it holds no hidden states of 16-bit numbers")
    return mapped


def _mapped(path: Path, rows: int | None) -> NDArray[Any]:
    try:
        # Mapped, so that a header that claims more than the file holds takes no memory; no pickle is run.
        mapped = np.load(path, mmap_mode="c", allow_pickle=False)
    except FileNotFoundError:
        raise ValueError("it is missing") from None
    except Exception as error:  # a damaged header raises nearly anything
        raise ValueError("it is damaged") from error
    if not isinstance(mapped, np.ndarray) or not mapped.ndim:
        raise ValueError("it holds no array of rows")
    if rows is not None and len(mapped) != rows:
        raise ValueError(f"it has {len(mapped):,} rows in place of {rows:,}")
    return mapped
