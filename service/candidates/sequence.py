"""Serves sequence families (SASRec, MoRec, …): ONNX Runtime turns a history into a user vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.contracts import ENCODER_INPUT, BundleError
from service.candidates.onnx_encoder import load_encoder
from service.candidates.vector_scores import VectorModel
from service.catalogue.bundle import Backbone


class SequenceModel(VectorModel):
    """Scores items with the user vector that an encoder makes of the last L item vectors of a history.

    The item vectors stay outside the ONNX graph: worker processes share one memory-mapped copy, and the
    encoder sees only the n vectors of a history, never padding.
    """

    def __init__(self, backbone: Backbone, threads: int = 1) -> None:
        """Loads the encoder.

        Args:
            backbone: backbone of an open bundle, with an encoder.
            threads: threads of ONNX Runtime per call, at least 1.

        Raises:
            BundleError: the encoder cannot be used.
        """
        super().__init__(backbone)
        assert backbone.encoder is not None, backbone.manifest.name
        manifest = backbone.manifest
        try:
            self._session = load_encoder(backbone.encoder, manifest.dimension, manifest.length, threads)
        except BundleError as error:
            raise BundleError(f"the backbone {manifest.name}: {error}") from error

    def user_vector(self, user: int | None, history: Sequence[int]) -> NDArray[np.float32]:
        """Encodes the last L items of a history, float32 [d]; the user makes no difference."""
        read = self._item_vectors[np.asarray(history[-self._manifest.length :])]  # [n, d]
        (vectors,) = self._session.run(None, {ENCODER_INPUT: read[np.newaxis]})  # [1, d]
        vector: NDArray[np.float32] = vectors[0]
        return vector
