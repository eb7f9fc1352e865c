"""Reads the first token's hidden states after every second layer, which side adapters work on.

IISAN (Fu et al., SIGIR 2024, section 3.3) drops the layers of its encoders evenly: of twelve, the embedding
and layers 2, 4, …, 12 are used.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.features.errors import FeatureError


def every_second_layer(states: Sequence[Tensor]) -> Tensor:
    """Joins the first token's states, float16 [B, layers, f].

    Args:
        states: output of the embedding and of every layer, [B, n, f] each.
    """
    return torch.stack([each[:, 0] for each in states[::2]], dim=1).half()


def require_pairs_of_layers(name: str, layers: int) -> None:
    """Refuses an encoder whose last layer would be left out.

    Raises:
        FeatureError: it has an odd number of layers.
    """
    if layers % 2:
        raise FeatureError(
            f"the encoder {name!r} has {layers} layers, and every second one is read, the last among them: "
            "name one with an even number"
        )
