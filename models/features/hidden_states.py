"""Keeps the hidden states of every second layer of a frozen encoder, as IISAN reads them.

Fu et al., SIGIR 2024, section 3: of an encoder with 12 layers the blocks read the embedding and the layers 2,
4, …, 12, each by its first token ([CLS]), so the encoder runs once per item and never in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.features.errors import FeatureError

Halves = NDArray[np.float16]


def kept_layers(kind: str, name: str, config: Any) -> int:
    """Counts the layers that are kept of an encoder, 7 of one with 12: its embedding and every second layer.

    Args:
        kind: ``text encoder`` or ``image encoder``, for messages.
        name: configured name or path.
        config: the model's configuration in transformers.

    Raises:
        FeatureError: the number of layers is odd, so that its last layer would not be kept.
    """
    layers = int(config.num_hidden_layers)
    if layers % 2:
        raise FeatureError(
            f"the {kind} {name!r} has {layers} layers: every second one of an odd number leaves out the "
            "last; name an encoder with an even number, such as one of 12"
        )
    return layers // 2 + 1


def first_tokens(hidden_states: Sequence[torch.Tensor]) -> Halves:
    """Takes the first token's states after every second layer, the embedding first.

    Args:
        hidden_states: [B, n, w] each, one per layer after that of the embedding.

    Returns:
        float16 [B, kept layers, w].

    Raises:
        FeatureError: a state is beyond the numbers of 16 bits.
    """
    kept = torch.stack([states[:, 0] for states in hidden_states[::2]], dim=1).half()  # [B, K, w]
    if not torch.isfinite(kept).all():
        raise FeatureError(
            "a hidden state is beyond 65,504, the largest number of 16 bits: name another encoder"
        )
    return np.asarray(kept.numpy(), dtype=np.float16)
