"""Checks that vectors are numbers, in memory that does not grow with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.contracts import BundleError

BLOCK = 2**20
"""Numbers that are looked at together, about."""


def check_finite(path: Path, vectors: NDArray[np.float32]) -> None:
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
