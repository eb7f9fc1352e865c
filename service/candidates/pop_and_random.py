"""Serves the families that need no training, Pop and Random, for every catalogue."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.contracts import HISTORIES, POPULARITY, BackboneManifest
from service.candidates.base import CandidateModel, best_rows
from service.catalogue.bundle import Catalogue


class Pop(CandidateModel):
    """Ranks items by their interactions in the training part, in the same order for all users."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._popularity = catalogue.popularity  # int64 [items]
        self._order = catalogue.popular  # item rows, most interactions first; many items share a count
        self._manifest = _untrained("pop", catalogue, POPULARITY)

    @property
    def manifest(self) -> BackboneManifest:
        """Name, and a version that changes with the counts."""
        return self._manifest

    def top(
        self, user: int | None, history: Sequence[int], k: int, exclude: Sequence[int]
    ) -> tuple[list[int], list[float]]:
        """Ranks by interactions; the scores are their counts."""
        kept = np.ones(len(self._order), dtype=np.bool_)  # by row
        kept[np.asarray(exclude, dtype=np.intp)] = False
        best = self._order[kept[self._order]][:k]  # equal counts stay in the order of their rows
        return best.tolist(), self._popularity[best].astype(np.float64).tolist()

    def score(self, user: int | None, history: Sequence[int], rows: Sequence[int]) -> list[float]:
        """Returns the interactions of the given items."""
        scores: list[float] = self._popularity[np.asarray(rows)].astype(np.float64).tolist()
        return scores


class Random(CandidateModel):
    """Ranks items at random, in the same order for each request by the same user with the same history.

    The seed is made from user and history, so that an LVLM's answer to a random order can be cached.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._items = len(catalogue.items)
        self._manifest = _untrained("random", catalogue, HISTORIES)

    @property
    def manifest(self) -> BackboneManifest:
        """Name, and a version that changes with the items and the users' positions."""
        return self._manifest

    def top(
        self, user: int | None, history: Sequence[int], k: int, exclude: Sequence[int]
    ) -> tuple[list[int], list[float]]:
        """Ranks by the draws; the scores are the draws."""
        return best_rows(self._draws(user, history), k, exclude)

    def score(self, user: int | None, history: Sequence[int], rows: Sequence[int]) -> list[float]:
        """Returns the draws of the given items."""
        scores: list[float] = self._draws(user, history)[np.asarray(rows)].tolist()
        return scores

    def _draws(self, user: int | None, history: Sequence[int]) -> NDArray[np.float64]:
        """Draws one number per item of the catalogue, uniform in [0, 1): float64 [items]."""
        # -1 is no position of a user; int64 in a fixed byte order gives every machine the same seed.
        key = np.array([-1 if user is None else user, *history], dtype="<i8").tobytes()
        seed = int.from_bytes(hashlib.sha256(key).digest()[:8], "little")
        return np.random.default_rng(seed).random(self._items)


def _untrained(name: str, catalogue: Catalogue, read: str) -> BackboneManifest:
    """Makes the manifest of a family without training; its version is that of the file it reads."""
    return BackboneManifest(
        name=name,
        family=name,
        modalities=(),
        text_view="raw",
        captioner=None,
        catalogue_version=catalogue.version,
        length=0,  # neither reads a history nor has vectors
        dimension=0,
        config={},
        seed=0,
        device="none",
        epochs=0,
        seconds_per_epoch=0.0,
        metrics={},
        sha256={read: catalogue.manifest.sha256[read]},  # the version is made from these hashes
    )
