"""Encodes a history with SASRec, a causal transformer over a user's items (Kang & McAuley, ICDM 2018).

The network reads item vectors; ``item_tower`` makes them of ids, texts and images. There is no padding
before an item: callers pass sequences of equal length, or packed ones, so no row of the attention is ever
empty and nothing can turn into NaN in a masked softmax.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from models.networks.base import SequenceEncoder
from models.networks.config import LARGEST_SIZE


@dataclass(frozen=True)
class SASRecConfig:
    """The size of the network, and the form of its blocks.

    The defaults of the form are SASRec's; MSRBench's is that of IDvs.MoRec's code (Yuan et al., SIGIR 2023).

    Attributes:
        dimension: d, of item vectors, states and user vectors, at least 1.
        length: L, the number of last items that are read, at least 1.
        blocks: number of transformer blocks, at least 1.
        heads: number of attention heads; must divide d.
        dropout: probability in [0, 1) on the embedding, the attention weights and both sublayers (paper,
            section III-B).
        input_norm: whether the sum of item vector and position goes through a LayerNorm. Without it the last
            item hardly matters: item vectors start far shorter than what the blocks add to them.
        norm: place of the LayerNorms: ``pre``, x + g(LayerNorm(x)) with one more LayerNorm at the end, or
            ``post``, LayerNorm(x + g(x)) and none at the end.
        feed_forward: width of the feed-forward nets' hidden layer; 0 for d.
        attention_bias: whether the four projections of the attention have a bias.
        norm_eps: what is added to the variance in every LayerNorm, above 0 and at most 1.
        start: weights before training: ``torch``, its defaults and positions from N(0, 0.02²), or ``xavier``,
            Xavier normal with biases of zero.
    """

    dimension: int
    length: int
    blocks: int
    heads: int
    dropout: float
    input_norm: bool = field(default=False, kw_only=True)
    norm: Literal["pre", "post"] = field(default="pre", kw_only=True)
    feed_forward: int = field(default=0, kw_only=True)
    attention_bias: bool = field(default=True, kw_only=True)
    norm_eps: float = field(default=1e-5, kw_only=True)
    start: Literal["torch", "xavier"] = field(default="torch", kw_only=True)

    def __post_init__(self) -> None:
        if min(self.dimension, self.length, self.blocks, self.heads) < 1:
            raise ValueError("dimension, length, blocks and heads must be at least 1")
        if max(self.dimension, self.length, self.blocks) > LARGEST_SIZE:
            raise ValueError(f"dimension, length and blocks must be at most {LARGEST_SIZE}")
        if not 0 <= self.feed_forward <= LARGEST_SIZE:
            raise ValueError(f"feed_forward must be from 0 to {LARGEST_SIZE}")
        if self.dimension % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide dimension ({self.dimension})")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout}")
        if not 0 < self.norm_eps <= 1:
            raise ValueError(f"norm_eps must be above 0 and at most 1, not {self.norm_eps}")

    def layer_norm(self) -> nn.LayerNorm:
        """Makes a LayerNorm of vectors of length d."""
        return nn.LayerNorm(self.dimension, eps=self.norm_eps)


@dataclass(frozen=True)
class Packing:
    """Where P positions of B sequences of any lengths lie in a table [B, n] that they fill from the left.

    From the left, because a causal mask then hides from every position what lies beyond its sequence's end.

    Attributes:
        place: int64 [P], row · n + column.
        rows: B, the number of sequences.
        columns: n, the length of the longest.
    """

    place: Tensor
    rows: int
    columns: int

    def spread(self, x: Tensor) -> Tensor:
        """Lays positions out as a table with zeros elsewhere: [P, d] -> [B, n, d]."""
        table = x.new_zeros(self.rows * self.columns, x.shape[-1]).index_copy(0, self.place, x)
        return table.view(self.rows, self.columns, -1)

    def collect(self, table: Tensor) -> Tensor:
        """Takes the positions out of a table: [B, n, d] -> [P, d]."""
        return table.flatten(0, 1).index_select(0, self.place)


class Attention(nn.Module):
    """Multi-head attention of some query positions over all positions (paper, equations 2-4)."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        d, bias = config.dimension, config.attention_bias
        self.heads = config.heads
        self.head_size = d // config.heads
        self.query = nn.Linear(d, d, bias=bias)
        self.key_value = nn.Linear(d, 2 * d, bias=bias)
        self.output = nn.Linear(d, d, bias=bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, queries: Tensor, x: Tensor, mask: Tensor | None, packing: Packing | None = None
    ) -> Tensor:
        """Attends from ``queries`` [B, m, d] to ``x`` [B, n, d]; ``mask`` [m, n] is added to the logits.

        With a packing, queries and x are [P, d], and so is the result.
        """
        spread = packing.spread if packing else nn.Identity()
        q = self._split(spread(self.query(queries)))  # [B, h, m, d/h]
        k, v = (self._split(spread(each)) for each in self.key_value(x).chunk(2, dim=-1))  # [B, h, n, d/h]
        logits = q @ k.transpose(-1, -2) * self.head_size**-0.5  # [B, h, m, n]
        if mask is not None:
            logits = logits + mask
        mixed = self.dropout(logits.softmax(dim=-1)) @ v  # [B, h, m, d/h]
        heads = mixed.transpose(1, 2).reshape(len(mixed), -1, self.heads * self.head_size)  # [B, m, d]
        joined: Tensor = self.output(packing.collect(heads) if packing else heads)
        return joined  # [B, m, d]

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1, self.heads, self.head_size).transpose(
            1, 2
        )  # [B, n, d] -> [B, h, n, d/h]


class Block(nn.Module):
    """Self-attention and a point-wise feed-forward net g.

    Each is x + Dropout(g(LayerNorm(x))), or LayerNorm(x + Dropout(g(x))) in the form ``post``, whose net has
    no dropout inside.
    """

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        d, width = config.dimension, config.feed_forward or config.dimension
        self.post = config.norm == "post"
        self.attention_norm = config.layer_norm()
        self.attention = Attention(config)
        first, second = nn.Linear(d, width), nn.Linear(width, d)
        if self.post:
            self.feed_forward = nn.Sequential(first, nn.ReLU(), second)
            self.feed_forward_norm: nn.Module = config.layer_norm()
        else:
            self.feed_forward = nn.Sequential(
                config.layer_norm(), first, nn.ReLU(), nn.Dropout(config.dropout), second
            )
            self.feed_forward_norm = nn.Identity()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor, packing: Packing | None = None) -> Tensor:
        """Computes all positions: [B, n, d] -> [B, n, d], or with a packing [P, d] -> [P, d]."""
        read = x if self.post else self.attention_norm(x)
        return self._finish(x, self.attention(read, read, mask, packing))

    def last(self, x: Tensor) -> Tensor:
        """Computes the last position alone, which needs no mask: [B, n, d] -> [B, 1, d]."""
        read = x if self.post else self.attention_norm(x)
        return self._finish(x[:, -1:], self.attention(read[:, -1:], read, None))

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.dropout(attended)
        if self.post:
            x = self.attention_norm(x)
        result: Tensor = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
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
        self.input_norm = config.layer_norm() if config.input_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = config.layer_norm() if config.norm == "pre" else nn.Identity()
        # -inf above the diagonal, [L, L]: position t attends to positions up to t.
        future = torch.full((config.length, config.length), float("-inf")).triu(1)
        self.register_buffer("causal", future, persistent=False)
        nn.init.normal_(self.positions, std=0.02)
        if config.start == "xavier":
            self._start_xavier()

    @classmethod
    def restored(cls, config: SASRecConfig, weights: Mapping[str, Tensor]) -> SASRec:
        """Rebuilds the encoder that a trained network has as its attribute ``network``.

        Args:
            config: configuration that it was trained with.
            weights: state dict of the whole network.
        """
        encoder, prefix = cls(config), "network."
        encoder.load_state_dict(
            {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        )
        return encoder

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

    def packed(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Computes the user vector after each item of sequences of any lengths, for training.

        Equals ``forward`` of each sequence alone. Only the attention sees places that no item fills, so that
        a batch costs what its items cost.

        Args:
            vectors: float [P, d], one sequence after the other, each oldest first.
            lengths: int64 [B], of the sequences, 1 <= length <= L, P in all.

        Returns:
            float [P, d].
        """
        at = torch.arange(len(vectors), device=vectors.device)
        row = torch.repeat_interleave(lengths)  # [P]
        column = at - (lengths.cumsum(0) - lengths)[row]  # [P], 0 for the oldest item
        packing = Packing(row * int(lengths.max()) + column, len(lengths), int(lengths.max()))
        positions = embedding(self.length - lengths[row] + column, self.positions)  # [P, d]
        x = self.dropout(self.input_norm(vectors + positions))
        for block in self.blocks:
            x = block(x, self.causal[: packing.columns, : packing.columns], packing)
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

    @torch.no_grad()
    def _start_xavier(self) -> None:
        nn.init.xavier_normal_(self.positions)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                # Keys and values are two matrices [d, d] one above the other, each with its own scale.
                for matrix in module.weight.chunk(2 if name.endswith("key_value") else 1):
                    nn.init.xavier_normal_(matrix)
                if module.bias is not None:
                    module.bias.zero_()

    def _mask(self, x: Tensor) -> Tensor:
        n = x.shape[1]
        return self.causal[:n, :n]

    def _embed(self, vectors: Tensor) -> Tensor:
        n = vectors.shape[1]
        assert vectors.ndim == 3, vectors.shape
        assert vectors.shape[2] == self.config.dimension, vectors.shape
        assert n <= self.config.length, f"{n} items, the network reads {self.config.length}"
        embedded = self.input_norm(vectors + self.positions[self.config.length - n :])
        read: Tensor = self.dropout(embedded)
        return read
