"""Scores items by the inner product of user and item vector, as sequence and graph families do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.contracts import BackboneManifest
from service.candidates.base import CandidateModel, best_rows
from service.catalogue.bundle import Backbone


class VectorModel(CandidateModel):
    """Scores the whole catalogue with one matrix-vector product (Kang & McAuley 2018, eq. 7)."""

    def __init__(self, backbone: Backbone) -> None:
        self._manifest = backbone.manifest
        self._item_vectors = backbone.item_vectors  # [items, d]

    @property
    def manifest(self) -> BackboneManifest:
        """What the model is and how it was trained."""
        return self._manifest

    @abstractmethod
    def user_vector(self, user: int | None, history: Sequence[int]) -> NDArray[np.float32]:
        """Makes the vector that items are scored with, float32 [d].

        Args:
            user: position of the user in the bundle's histories; None for a user who is not in them.
            history: item rows, oldest first; at least one unless the model knows the user.
        """

    def top(
        self, user: int | None, history: Sequence[int], k: int, exclude: Sequence[int]
    ) -> tuple[list[int], list[float]]:
        """Ranks the catalogue by one matrix-vector product."""
        # vecdot, not @: OpenBLAS's gemv takes 1.7 times as long at d 512 (`python -m benchmarks candidates`).
        return best_rows(np.vecdot(self._item_vectors, self.user_vector(user, history)), k, exclude)

    def score(self, user: int | None, history: Sequence[int], rows: Sequence[int]) -> list[float]:
        """Scores the given item rows, in their order."""
        vectors = self._item_vectors[np.asarray(rows)]  # [rows, d]
        scores: list[float] = np.vecdot(vectors, self.user_vector(user, history)).tolist()
        return scores
