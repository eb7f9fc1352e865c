"""Serves graph families (MMGCN, FREEDOM, BM3, …), which have a vector for each user of the training data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.candidates.vector_scores import VectorModel
from service.catalogue.bundle import Backbone

UNKNOWN_USER = (
    "the backbone has no vector of this user: items are ranked by the mean of the history's item vectors"
)
"""Warning in answers of a graph family to users without a vector."""


class GraphModel(VectorModel):
    """Scores items with the vector that training gave to a user.

    For a user without a vector the mean of the history's item vectors takes its place, and a warning says so.
    A known user's vector stays as trained: items taken later do not change it.
    """

    def __init__(self, backbone: Backbone) -> None:
        """Reads the vectors.

        Args:
            backbone: backbone of an open bundle, with user vectors.
        """
        super().__init__(backbone)
        assert backbone.user_vectors is not None, backbone.manifest.name
        self._user_vectors = backbone.user_vectors  # [users, d]

    def knows(self, user: int | None) -> bool:
        """Returns whether the user has a vector: all users of the bundle have one."""
        return user is not None

    def warnings(self, user: int | None) -> tuple[str, ...]:
        """Returns one warning for a user without a vector."""
        return () if self.knows(user) else (UNKNOWN_USER,)

    def user_vector(self, user: int | None, history: Sequence[int]) -> NDArray[np.float32]:
        """Returns the user's own vector, else the mean of the history's item vectors, float32 [d]."""
        if user is not None:
            own: NDArray[np.float32] = self._user_vectors[user]
            return own
        mean: NDArray[np.float32] = self._item_vectors[np.asarray(history)].mean(axis=0)
        return mean
