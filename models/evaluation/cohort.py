"""Draws the users of an evaluation that costs money per user."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.evaluation.splitmix import mix

COHORT_SIZE = 400
"""Number of users in the paper's cohort. Cochran's formula z² p (1 - p) / margin² asks for 385, with 95 %
confidence and a margin of 5 %."""


def cohort(users: ArrayLike, n: int = COHORT_SIZE, seed: int = 2024) -> NDArray[np.int64]:
    """Draws a seeded sample of users, for evaluations that cost money per user.

    Args:
        users: user positions to choose from.
        n: size of the sample; where there are fewer users, all of them are taken.
        seed: seed of the choice. With one seed a smaller cohort is part of every larger one.

    Returns:
        int64 [min(n, users)], ascending.
    """
    users = np.unique(np.asarray(users, dtype=np.int64))
    # The n users with the smallest hashes: a smaller n takes a part of them.
    keys = np.array([mix(mix(seed) ^ user) for user in users.tolist()], dtype=np.uint64)
    return np.sort(users[np.argsort(keys, kind="stable")[:n]])
