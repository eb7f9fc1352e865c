"""Finds the interactions of a user with an item that came before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def is_repeat(users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Marks the pairs that are an earlier one again.

    Args:
        users: number of the user of each interaction, at least 0, int64 [interactions].
        items: number of its item, likewise.

    Returns:
        bool [interactions], True for all but the first of equal pairs.
    """
    repeat = np.zeros(len(users), dtype=np.bool_)
    if len(users):
        pairs = users * (int(items.max()) + 1) + items
        in_order = np.sort(pairs)
        if (in_order[1:] != in_order[:-1]).all():  # most data have no repeats, and this is the quicker look
            return repeat
        _, first = np.unique(pairs, return_index=True)  # of equal pairs the first
        repeat[:] = True
        repeat[first] = False
    return repeat
