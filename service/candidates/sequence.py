"""Candidate generation: an ONNX Runtime session for the history, one matrix product for the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.contracts import ENCODER_INPUT, BackboneManifest
from service.bundle import Backbone


class CandidateModel(Protocol):
    """A trained recommender as the service uses it."""

    @property
    def manifest(self) -> BackboneManifest:
        """What the model is and how it was trained."""
        ...

    def top(self, history: Sequence[int], k: int, left_out: Sequence[int]) -> tuple[list[int], list[float]]:
        """The k best item rows outside ``left_out``, best first, and their scores; fewer if fewer exist."""
        ...

    def score(self, history: Sequence[int], rows: Sequence[int]) -> list[float]:
        """The scores of the given item rows, in their order."""
        ...


class SequenceModel:
    """A backbone whose encoder turns the last L item vectors of a history into a user vector.

    The item vectors stay outside the graph: worker processes share one memory-mapped copy, and the encoder
    sees only the n vectors of a history, never padding. A score is the inner product of user and item vector
    (Kang & McAuley 2018, eq. 7).
    """

    def __init__(self, backbone: Backbone, threads: int = 1) -> None:
        """Load the encoder.

        Args:
            backbone: from an open bundle.
            threads: of ONNX Runtime per call. Set explicitly, since it would count the host's cores and not
                the container's.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(backbone.encoder), sess_options=options, providers=["CPUExecutionProvider"]
        )
        self._manifest = backbone.manifest
        self._item_vectors = np.asarray(backbone.item_vectors)  # a plain view: memmap's own indexing is slow

    @property
    def manifest(self) -> BackboneManifest:
        """What the model is and how it was trained."""
        return self._manifest

    def user_vector(self, history: Sequence[int]) -> NDArray[np.float32]:
        """Encode a history of at least one item row, oldest first: float32 [d]."""
        last = self._item_vectors[np.asarray(history[-self._manifest.length :])]
        (user_vectors,) = self._session.run(None, {ENCODER_INPUT: last[np.newaxis]})
        vector: NDArray[np.float32] = user_vectors[0]
        return vector

    def top(self, history: Sequence[int], k: int, left_out: Sequence[int]) -> tuple[list[int], list[float]]:
        """The k best item rows outside ``left_out``, best first, and their scores; equal scores by row."""
        # vecdot, not @: OpenBLAS's gemv takes 1.7 times as long at d 512 (`python -m benchmarks candidates`).
        scores = np.vecdot(self._item_vectors, self.user_vector(history))
        if left_out:
            scores[np.asarray(left_out)] = -np.inf
        k = min(k, len(scores))
        best = np.argpartition(scores, len(scores) - k)[len(scores) - k :]
        best = best[np.lexsort((best, -scores[best]))]
        best = best[np.isfinite(scores[best])]
        return best.tolist(), scores[best].tolist()

    def score(self, history: Sequence[int], rows: Sequence[int]) -> list[float]:
        """The scores of the given item rows, in their order."""
        vectors = self._item_vectors[np.asarray(rows)]
        scores: list[float] = np.vecdot(vectors, self.user_vector(history)).tolist()
        return scores
