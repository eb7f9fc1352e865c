"""Runs a recommender in torch and as one ONNX graph, the two usual ways, to compare a bundle's speed with.

Both hold the item vectors inside the model and answer with the top k, as in the papers' own code.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.bundle.onnx_export import OPSET
from models.data.dataset import Rows
from models.networks.base import SequenceEncoder
from models.networks.sasrec import SASRec, SASRecConfig

TopK = Callable[[Rows], tuple[NDArray[np.int64], NDArray[np.float32]]]
"""Function from a history of 1 to L item rows to the k best rows, best first, and their scores."""


class WholeModel(nn.Module):
    """Holds encoder and item vectors in one module: item rows in, the k best items out.

    Args:
        encoder: user encoder, in evaluation mode.
        item_vectors: vectors of the catalogue, float32 [items, d].
        k: number of items to return.
        last_only: True computes the last block for the last position only, as the exported encoder does;
            False for all positions, as in training.
    """

    item_vectors: Tensor

    def __init__(
        self, encoder: SequenceEncoder, item_vectors: NDArray[np.float32], k: int, last_only: bool
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.k = k
        self.last_only = last_only
        self.register_buffer("item_vectors", torch.from_numpy(item_vectors))

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Ranks the catalogue after a history: rows int64 [1, n] -> rows int64 [1, k] and scores [1, k]."""
        history = self.item_vectors[rows]  # [1, n, d]
        users = self.encoder.last(history) if self.last_only else self.encoder(history)[:, -1]  # [1, d]
        scores, best = (users @ self.item_vectors.T).topk(self.k)
        return best, scores


def random_recommender(config: SASRecConfig, items: int, seed: int) -> tuple[SASRec, NDArray[np.float32]]:
    """Makes a network and item vectors [items, d] with seeded random weights, to measure speed alone."""
    torch.manual_seed(seed)
    network = SASRec(config).eval()
    return network, torch.randn(items, config.dimension).numpy() * config.dimension**-0.5


def torch_eager(model: WholeModel) -> TopK:
    """Runs the model in torch, on one thread of this process."""
    torch.set_num_threads(1)  # of the whole process, as long as it lives
    model.eval()

    def top_k(history: Rows) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        with torch.inference_mode():
            best, scores = model(torch.from_numpy(history.astype(np.int64))[None])
        return best[0].numpy(), scores[0].numpy()

    return top_k


def plain_onnx(model: WholeModel, path: Path) -> TopK:
    """Exports the whole model with ``torch.onnx.export`` and runs it in ONNX Runtime, on one thread.

    Args:
        model: module to export.
        path: file to write.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as for the encoder: deprecation, and traced assertions
        torch.onnx.export(
            model.eval(),
            (torch.zeros(1, min(2, model.encoder.length), dtype=torch.int64),),
            str(path),
            input_names=["rows"],
            output_names=["best", "scores"],
            dynamic_axes={"rows": {1: "n"}},
            opset_version=OPSET,
            dynamo=False,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def top_k(history: Rows) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        best, scores = session.run(["best", "scores"], {"rows": history.astype(np.int64)[None]})
        return best[0], scores[0]

    return top_k
