"""Graph families (MMGCN, FREEDOM, BM3, …): every user of the training data has a vector in the bundle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.bundle import Backbone
from service.candidates.vectors import VectorModel

UNKNOWN_USER = (
    "the backbone has no vector of this user: items are ranked by the mean of the history's item vectors"
)


class GraphModel(VectorModel):
    """A backbone with the vectors of all users whom it was trained on.

    A user it was not trained on is ranked by the mean of the item vectors of the history, and a warning says
    so. Items that a known user took after the training change nothing.
    """

    def __init__(self, backbone: Backbone) -> None:
        """Keep the vectors.

        Args:
            backbone: from an open bundle; it has user vectors.
        """
        super().__init__(backbone)
        assert backbone.user_vectors is not None, backbone.manifest.name
        self._user_vectors = np.asarray(backbone.user_vectors)  # [users, d]

    def knows(self, user: int | None) -> bool:
        """Whether the user is one of the bundle's."""
        return user is not None

    def warnings(self, user: int | None) -> tuple[str, ...]:
        """One for a user without a vector."""
        return () if self.knows(user) else (UNKNOWN_USER,)

    def user_vector(self, user: int | None, history: Sequence[int]) -> NDArray[np.float32]:
        """The user's own vector, else the mean of the history's item vectors, float32 [d]."""
        if user is not None:
            own: NDArray[np.float32] = self._user_vectors[user]
            return own
        mean: NDArray[np.float32] = self._item_vectors[np.asarray(history)].mean(axis=0)
        return mean
