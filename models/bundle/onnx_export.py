"""Exports a user encoder to ONNX, and checks that ONNX Runtime and torch give the same scores."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.contracts import ENCODER_INPUT, ENCODER_OUTPUT
from models.data.dataset import Rows
from models.errors import ModelsError
from models.networks.base import SequenceEncoder

Floats = NDArray[np.float32]

OPSET = 17
"""ONNX operator set of the file; LayerNormalization is one operator from 17 on."""

TOP = 30
"""Number of best items that must be the same in both runtimes, else the export fails: the LVLM's pool."""

TOLERANCE = 1e-4
"""Largest difference of a score, relative to the largest score of the same history; beyond it the export
fails."""


HISTORIES_PER_LENGTH = 3
"""Number of histories of each length that both runtimes are compared on, at most."""


class ExportError(ModelsError):
    """A backbone cannot be served: its encoder disagrees with torch, or its vectors are unusable."""


class _LastPosition(nn.Module):
    """Computes the user vector of one history, at its newest position alone: the graph that is exported."""

    def __init__(self, encoder: SequenceEncoder) -> None:
        super().__init__()
        self.network = encoder  # this name is in the file's bytes, and a backbone's version is their hash

    def forward(self, history: Tensor) -> Tensor:
        """Encodes item vectors [1, n, d], oldest first, 1 <= n <= L, as a user vector [1, d]."""
        return self.network.last(history)


def export_encoder(encoder: SequenceEncoder, path: Path) -> None:
    """Writes ``encoder.onnx`` as ``models.contracts`` describes it: fp32, weights inside.

    The TorchScript exporter and the newer one give equally fast graphs here; the former needs a second
    instead of fifteen and no further package.

    Args:
        encoder: trained encoder, on the CPU.
        path: file to write.
    """
    # Tracing needs an example; n is declared dynamic below, and two items exercise the mask.
    example = torch.zeros(1, min(2, encoder.length), encoder.dimension)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its deprecation, and shape assertions that tracing cannot follow
        torch.onnx.export(
            # The exporter restores the mode that a module was in, for its children too: it must be eval.
            _LastPosition(encoder).eval(),
            (example,),
            str(path),
            input_names=[ENCODER_INPUT],
            output_names=[ENCODER_OUTPUT],
            dynamic_axes={ENCODER_INPUT: {1: "n"}},
            opset_version=OPSET,
            dynamo=False,
        )


def encoder_session(path: Path) -> onnxruntime.InferenceSession:
    """Opens an encoder as the service does: on the CPU, with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def check_encoder(
    path: Path, encoder: SequenceEncoder, item_vectors: Floats, histories: Sequence[Rows]
) -> None:
    """Compares the exported encoder with torch on real histories of every length 1 to L.

    Torch computes all positions, as in training; the exported encoder the last one only. Scores of the whole
    catalogue must agree, and so must the first 30 items, up to items whose scores are the same within the
    tolerance.

    Args:
        path: exported encoder.
        encoder: module that was exported, in evaluation mode.
        item_vectors: vectors of the catalogue, float32 [items, d].
        histories: item rows of some users, oldest first.

    Raises:
        ExportError: the two disagree, or a score is not a number.
    """
    session = encoder_session(path)
    for history in sample_histories(histories, encoder.length):
        vectors = item_vectors[history][None]  # [1, n, d]
        with torch.inference_mode():
            expected = item_vectors @ encoder(torch.from_numpy(vectors))[0, -1].numpy()  # [items]
        (user,) = session.run([ENCODER_OUTPUT], {ENCODER_INPUT: vectors})
        _compare(item_vectors @ user[0], expected, len(history))


def check_vectors(item_vectors: Floats, user_vectors: Floats, users: int) -> None:
    """Checks that the vectors of a graph family can be served.

    Args:
        item_vectors: vectors of the catalogue, float32 [items, d].
        user_vectors: vectors of the users, float32 [users, d].
        users: number of users in the data set.

    Raises:
        ExportError: there are more or fewer users, another d, or a value is not a number.
    """
    if user_vectors.shape != (users, item_vectors.shape[1]):
        raise ExportError(
            f"the run has user vectors {user_vectors.shape} for {users} users and item vectors "
            f"{item_vectors.shape}: train again"
        )
    if not (np.isfinite(item_vectors).all() and np.isfinite(user_vectors).all()):
        raise ExportError("a vector is not a number: train again with a lower learning rate")


def sample_histories(histories: Sequence[Rows], length: int) -> Iterator[Rows]:
    """Yields, for every n from 1 to L, the last n items of some histories that are long enough."""
    for n in range(1, length + 1):
        long_enough = [history for history in histories if len(history) >= n]
        stride = max(1, len(long_enough) // HISTORIES_PER_LENGTH)
        for history in long_enough[::stride][:HISTORIES_PER_LENGTH]:
            yield history[-n:]


def _compare(scores: Floats, expected: Floats, n: int) -> None:
    if not (np.isfinite(scores).all() and np.isfinite(expected).all()):
        raise ExportError(f"a score after {n} items is not a number: train again with a lower learning rate")
    # Relative to the largest score; where that is below 1 the scores may be all rounding, and it is absolute.
    tolerance = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(scores - expected).max())
    if difference > tolerance:
        raise ExportError(
            f"ONNX Runtime and torch differ by {difference:.2g} after {n} items (accepted: {tolerance:.2g}); "
            "the encoder was not written: report the versions of torch and onnxruntime"
        )
    # Items within the tolerance of the last one may stand on either side of the cut.
    top = np.argsort(-scores, kind="stable")[:TOP]
    kth = np.sort(expected)[-len(top)]
    if (expected[top] < kth - tolerance).any():
        raise ExportError(f"ONNX Runtime and torch have different first {TOP} items after {n} items")
