"""Encodes a history with SASRec, a causal transformer over a user's items (Kang & McAuley, ICDM 2018).

The network reads item vectors; ``item_tower`` makes them of ids, texts and images. There is no padding
anywhere: callers pass sequences of equal length, so no row of the attention is ever empty and nothing can
turn into NaN in a masked softmax.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.base import SequenceEncoder
from models.networks.config import LARGEST_SIZE


@dataclass(frozen=True)
class SASRecConfig:
    """The size of the network.

    Attributes:
        dimension: d, of item vectors, states and user vectors, at least 1.
        length: L, the number of last items that are read, at least 1.
        blocks: number of transformer blocks, at least 1.
        heads: number of attention heads; must divide d.
        dropout: probability in [0, 1) on the embedding, the attention weights and both sublayers (paper,
            section III-B).
    """

    dimension: int
    length: int
    blocks: int
    heads: int
    dropout: float

    def __post_init__(self) -> None:
        if min(self.dimension, self.length, self.blocks, self.heads) < 1:
            raise ValueError("dimension, length, blocks and heads must be at least 1")
        if max(self.dimension, self.length, self.blocks) > LARGEST_SIZE:
            raise ValueError(f"dimension, length and blocks must be at most {LARGEST_SIZE}")
        if self.dimension % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide dimension ({self.dimension})")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout}")


class Attention(nn.Module):
    """Multi-head attention of some query positions over all positions (paper, equations 2-4)."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.head_size = config.dimension // config.heads
        self.query = nn.Linear(config.dimension, config.dimension)
        self.key_value = nn.Linear(config.dimension, 2 * config.dimension)
        self.output = nn.Linear(config.dimension, config.dimension)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, queries: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attends from ``queries`` [B, m, d] to ``x`` [B, n, d]; ``mask`` [m, n] is added to the logits."""
        q = self._split(self.query(queries))  # [B, h, m, d/h]
        k, v = map(self._split, self.key_value(x).chunk(2, dim=-1))  # [B, h, n, d/h] each
        logits = q @ k.transpose(-1, -2) * self.head_size**-0.5  # [B, h, m, n]
        if mask is not None:
            logits = logits + mask
        mixed = self.dropout(logits.softmax(dim=-1)) @ v  # [B, h, m, d/h]
        joined: Tensor = self.output(mixed.transpose(1, 2).reshape(len(x), -1, self.heads * self.head_size))
        return joined  # [B, m, d]

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1, self.heads, self.head_size).transpose(
            1, 2
        )  # [B, n, d] -> [B, h, n, d/h]


class Block(nn.Module):
    """Self-attention and a point-wise feed-forward net, each as x + Dropout(g(LayerNorm(x)))."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        d = config.dimension
        self.attention_norm = nn.LayerNorm(d)
        self.attention = Attention(config)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(d), nn.Linear(d, d), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(d, d)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Computes all positions: [B, n, d] -> [B, n, d]."""
        normed = self.attention_norm(x)
        return self._finish(x, self.attention(normed, normed, mask))

    def last(self, x: Tensor) -> Tensor:
        """Computes the last position alone, which needs no mask: [B, n, d] -> [B, 1, d]."""
        normed = self.attention_norm(x)
        return self._finish(x[:, -1:], self.attention(normed[:, -1:], normed, None))

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.dropout(attended)
        result: Tensor = x + self.dropout(self.feed_forward(x))
        return result


class SASRec(SequenceEncoder):
    """Turns the item vectors of a history, oldest first, into user vectors.

    Positions count from the end: the newest item always has the last position embedding, however short the
    history is.
    """

    causal: Tensor

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        self.config = config
        self.length, self.dimension = config.length, config.dimension
        self.positions = nn.Parameter(torch.empty(config.length, config.dimension))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.dimension)
        # -inf above the diagonal, [L, L]: position t attends to positions up to t.
        future = torch.full((config.length, config.length), float("-inf")).triu(1)
        self.register_buffer("causal", future, persistent=False)
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, vectors: Tensor) -> Tensor:
        """Computes the user vector after each item, for training.

        Args:
            vectors: float [B, n, d], oldest first, 1 <= n <= L, no padding.

        Returns:
            float [B, n, d]: position t has read items 1..t.
        """
        x = self._embed(vectors)  # [B, n, d]
        mask = self._mask(x)
        for block in self.blocks:
            x = block(x, mask)
        states: Tensor = self.norm(x)
        return states

    def last(self, vectors: Tensor) -> Tensor:
        """Computes the user vector after the whole history, for evaluation and serving.

        Equals ``forward(vectors)[:, -1]``; the last block computes the last position only, which nearly
        halves the work of a two-block network.

        Args:
            vectors: float [B, n, d], oldest first, 1 <= n <= L, no padding.

        Returns:
            float [B, d].
        """
        x = self._embed(vectors)  # [B, n, d]
        mask = self._mask(x)
        *earlier, final = self.blocks  # earlier blocks compute all positions, which the final one attends to
        for block in earlier:
            x = block(x, mask)
        state: Tensor = self.norm(final.last(x))  # type: ignore[operator]  # [B, 1, d]
        return state[:, 0]

    def _mask(self, x: Tensor) -> Tensor:
        n = x.shape[1]
        return self.causal[:n, :n]

    def _embed(self, vectors: Tensor) -> Tensor:
        n = vectors.shape[1]
        assert vectors.ndim == 3, vectors.shape
        assert vectors.shape[2] == self.config.dimension, vectors.shape
        assert n <= self.config.length, f"{n} items, the network reads {self.config.length}"
        embedded: Tensor = self.dropout(vectors + self.positions[self.config.length - n :])
        return embedded
