"""Makes item vectors from the cached hidden states of two frozen encoders, by small side networks.

This is the item side of IISAN (Fu et al., SIGIR 2024): the encoders read every item once, before training,
and what is learned stands beside them. A network per modality goes from block to block through the states of
its encoder (intra-modal), and a third one reads both at once (inter-modal).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models.features.errors import FeatureError
from models.networks.config import LARGEST_SIZE

GATE_TEMPERATURE = 0.1
"""Divisor of a gate's weight inside the sigmoid, as in the authors' code."""


@dataclass(frozen=True)
class SideAdaptersConfig:
    """The ``[adapters]`` section.

    Attributes:
        hidden: width of an adapter's hidden layer, at least 1.
        pictures: what is known of a picture: ``layers``, the hidden states of an encoder as deep and as wide
            as that of the texts (the paper); ``single``, one feature, which a learned map to the width of
            the text states repeats in every block. It stands in where there is no such encoder.
    """

    hidden: int
    pictures: Literal["layers", "single"] = "layers"

    def __post_init__(self) -> None:
        if not 1 <= self.hidden <= LARGEST_SIZE:
            raise ValueError(f"hidden must be at least 1 and at most {LARGEST_SIZE}")


class CachedStates(nn.Module):
    """Holds what a frozen encoder made of each item; items without it share one learned value.

    Args:
        states: float32 or float16 [items, K, w], or [items, f] for a single feature.
        present: bool [items], True where the item has the modality.
    """

    states: Tensor
    present: Tensor

    def __init__(self, states: Tensor, present: Tensor) -> None:
        super().__init__()
        # Not in the state dict: they have their own cache, and checkpoints stay small.
        self.register_buffer("states", states, persistent=False)
        self.register_buffer("present", present, persistent=False)
        # Zero adds nothing to the states that the inter-modal network sums.
        self.missing = nn.Parameter(torch.zeros(states.shape[1:]))

    def forward(self, rows: Tensor) -> Tensor:
        """Looks up the states of rows: int64 [R] -> float32 [R, K, w], or [R, f]."""
        present = self.present[rows].view(-1, *(1 for _ in self.missing.shape))
        return torch.where(present, self.states[rows].float(), self.missing)


class RepeatedFeature(nn.Module):
    """Stands in for hidden states where an item has a single feature: its map to width w, in all K blocks."""

    def __init__(self, feature: CachedStates, blocks: int, width: int) -> None:
        super().__init__()
        self.feature, self.blocks = feature, blocks
        self.project = nn.Linear(feature.missing.shape[0], width)

    def forward(self, rows: Tensor) -> Tensor:
        """Maps the features of rows: int64 [R] -> [R, K, w]."""
        mapped: Tensor = self.project(self.feature(rows))  # [R, w]
        return mapped[:, None].expand(-1, self.blocks, -1)


class Adapter(nn.Module):
    """Adds a bottleneck to its input: A(x) = x + W_up ReLU(W_down x + b) + b'."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, hidden), nn.Linear(hidden, width)
        for layer in (self.down, self.up):
            nn.init.normal_(layer.weight, std=0.01)  # at first nearly the identity
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Adapts [R, w] -> [R, w]."""
        adapted: Tensor = x + self.up(torch.relu(self.down(x)))
        return adapted


class Branch(nn.Module):
    """What the intra- and inter-modal networks have in common: an adapter and a gate per block, and an end.

    Args:
        blocks: K, the number of hidden states.
        width: w, of a hidden state.
        hidden: width of an adapter's hidden layer.
        dimension: d, of the result.
    """

    def __init__(self, blocks: int, width: int, hidden: int, dimension: int) -> None:
        super().__init__()
        self.adapters = nn.ModuleList(Adapter(width, hidden) for _ in range(blocks))
        self.gate_weights = nn.Parameter(torch.zeros(blocks))  # a: at first every gate is half open
        self.dense = nn.Linear(width, width)
        self.output = nn.Linear(width, dimension)

    def gates(self) -> Tensor:
        """Computes g = σ(a / 0.1), [K]."""
        return torch.sigmoid(self.gate_weights / GATE_TEMPERATURE)

    def end(self, x: Tensor) -> Tensor:
        """Maps the last block's output without a nonlinearity: [R, w] -> [R, d]."""
        ended: Tensor = self.output(self.dense(x))
        return ended


class IntraModal(Branch):
    """Goes through the states of one modality: x = A_k(g_k S_k + (1 - g_k) x)."""

    def forward(self, states: Tensor) -> Tensor:
        """Reads hidden states: [R, K, w] -> [R, d]."""
        x = torch.zeros_like(states[:, 0])  # [R, w]
        for adapter, gate, state in zip(self.adapters, self.gates(), states.unbind(1), strict=True):
            x = adapter(gate * state + (1 - gate) * x)
        return self.end(x)


class InterModal(Branch):
    """Goes through the states of both modalities: m = A_k(m + g_k V_k + (1 - g_k) T_k)."""

    def forward(self, text: Tensor, image: Tensor) -> Tensor:
        """Reads the hidden states of texts and pictures: [R, K, w] each -> [R, d]."""
        m = torch.zeros_like(text[:, 0])  # [R, w]
        blocks = zip(self.adapters, self.gates(), text.unbind(1), image.unbind(1), strict=True)
        for adapter, gate, text_state, image_state in blocks:
            m = adapter(m + gate * image_state + (1 - gate) * text_state)
        return self.end(m)


class SideAdapters(nn.Module):
    """Turns item rows into item vectors: both modalities, alone and together, then one linear map.

    Args:
        config: width of the adapters, and what is known of a picture.
        dimension: d, of the item vectors.
        text: states [items, K, w] and presence [items] of the texts; the data give K and w.
        image: the same of the pictures, with the same K and w; with ``pictures = "single"`` [items, f].

    Raises:
        FeatureError: the states of the two do not fit together.
    """

    def __init__(
        self,
        config: SideAdaptersConfig,
        dimension: int,
        text: tuple[Tensor, Tensor],
        image: tuple[Tensor, Tensor],
    ) -> None:
        super().__init__()
        _check_shapes(config, text[0].shape[1:], image[0].shape[1:])
        blocks, width = text[0].shape[1:]
        self.text_states = CachedStates(*text)
        pictures = CachedStates(*image)
        self.image_states: nn.Module = (
            RepeatedFeature(pictures, blocks, width) if config.pictures == "single" else pictures
        )
        self.text = IntraModal(blocks, width, config.hidden, dimension)
        self.image = IntraModal(blocks, width, config.hidden, dimension)
        self.both = InterModal(blocks, width, config.hidden, dimension)
        self.fusion = nn.Linear(3 * dimension, dimension)  # W_c

    def forward(self, rows: Tensor) -> Tensor:
        """Makes the vectors of rows: int64 [R] -> [R, d]."""
        text, image = self.text_states(rows), self.image_states(rows)  # [R, K, w] each
        parts = [self.image(image), self.text(text), self.both(text, image)]  # [R, d] each
        vectors: Tensor = self.fusion(torch.cat(parts, dim=1))  # [R, d]
        return vectors


def _check_shapes(config: SideAdaptersConfig, text: torch.Size, image: torch.Size) -> None:
    if len(text) != 2:
        raise FeatureError('IISAN reads hidden states of texts: set features.text_pooling to "layers"')
    if config.pictures == "single":
        if len(image) != 1:
            raise FeatureError(
                'there are hidden states of the pictures: set adapters.pictures to "layers", which reads them'
            )
    elif len(image) != 2:
        raise FeatureError(
            'IISAN reads hidden states of pictures: set features.image_output to "layers", or '
            'adapters.pictures to "single", which repeats one feature'
        )
    elif text != image:
        raise FeatureError(
            f"the text encoder gives {text[0]} states of width {text[1]} and the image encoder {image[0]} of "
            f"{image[1]}: name two of the same depth and width (features.text_encoder, "
            'features.image_encoder), or set adapters.pictures to "single"'
        )
