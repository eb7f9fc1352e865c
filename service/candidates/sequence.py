"""Serves sequence families (SASRec, MoRec, …): ONNX Runtime turns a history into a user vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.contracts import ENCODER_INPUT
from service.candidates.vector_scores import VectorModel
from service.catalogue.bundle import Backbone


class SequenceModel(VectorModel):
    """Scores items with the user vector that an encoder makes of the last L item vectors of a history.

    The item vectors stay outside the ONNX graph: worker processes share one copy, and the
    encoder sees only the n vectors of a history, never padding.
    """

    def __init__(self, backbone: Backbone, threads: int = 1) -> None:
        """Loads the encoder.

        Args:
            backbone: backbone of an open bundle, with an encoder.
            threads: threads of ONNX Runtime per call, at least 1. Left to itself it would count the host's
                cores and not the container's.
        """
        super().__init__(backbone)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        # Threads that wait actively ("spin") between two requests would take the cores from other workers.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(backbone.encoder), sess_options=options, providers=["CPUExecutionProvider"]
        )

    def user_vector(self, user: int | None, history: Sequence[int]) -> NDArray[np.float32]:
        """Encodes the last L items of a history, float32 [d]; the user makes no difference."""
        read = self._item_vectors[np.asarray(history[-self._manifest.length :])]  # [n, d]
        (vectors,) = self._session.run(None, {ENCODER_INPUT: read[np.newaxis]})  # [1, d]
        vector: NDArray[np.float32] = vectors[0]
        return vector
