"""Filters a data set to its k-core: users and items that are too rare to learn from are left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def k_core(users: NDArray[np.int64], items: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Marks the interactions that are left when every user and every item must have at least k.

    Dropping a user makes items rarer and the other way round, so both are dropped until nothing changes.

    Args:
        users: user number of each interaction from 0, int64 [n].
        items: item number of each interaction from 0, int64 [n].
        k: least number of interactions, at least 1; 5 in the 5-core data sets of McAuley.

    Returns:
        bool [n].
    """
    kept = np.ones(len(users), dtype=np.bool_)
    while kept.any():
        frequent = kept.copy()
        for ids in (users, items):
            # Counts of the kept interactions, read back per interaction: bool [n].
            frequent &= np.bincount(ids[kept], minlength=ids.max() + 1)[ids] >= k
        if (frequent == kept).all():  # each round drops at least one interaction, so the loop ends
            break
        kept = frequent
    return kept
