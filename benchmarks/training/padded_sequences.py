"""Trains SASRec the usual way: every history padded to L, the loss computed everywhere and then masked.

The weights, the loss and the number of steps are those of ``TowerRecommender``; only the work differs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from models.networks.sasrec import SASRec
from models.networks.tower_recommender import TowerRecommender

PADDING = -1
"""Row of a place without an item."""

FAR_BELOW = -1e9
"""Logit of what may not be attended to; minus infinity would make a row of padding alone NaN."""


def padded(sequences: Sequence[Tensor], length: int) -> Tensor:
    """Pads sequences of item rows on the left: int64 [S, L + 1]."""
    rows = torch.full((len(sequences), length + 1), PADDING)
    for row, sequence in zip(rows, sequences, strict=True):
        row[len(row) - len(sequence) :] = sequence
    return rows


def padded_batches(
    sequences: Sequence[Tensor], length: int, steps: int, generator: torch.Generator
) -> list[Tensor]:
    """Shuffles all sequences and cuts them into ``steps`` batches int64 [S, L + 1]."""
    order = torch.randperm(len(sequences), generator=generator).tolist()
    size = math.ceil(len(order) / steps)
    return [
        padded([sequences[index] for index in order[at : at + size]], length)
        for at in range(0, len(order), size)
    ]


def padded_loss(network: TowerRecommender, rows: Tensor, negatives: Tensor) -> Tensor:
    """Computes the loss of ``TowerRecommender.next_item_loss`` on padded rows.

    Args:
        network: SASRec, with an id table as its tower.
        rows: item rows int64 [S, L + 1], padded on the left.
        negatives: item rows int64 [K] that all positions share.
    """
    real = rows[:, :-1] != PADDING  # [S, L]
    table = network.tower.all()  # [items, d]
    history = functional.embedding(rows[:, :-1].clamp(min=0), table)  # [S, L, d]
    states = _states(network.network, history, real) / network.learning.temperature  # [S, L, d]
    targets = rows[:, 1:].clamp(min=0)  # [S, L]
    positive = (states * functional.embedding(targets, table)).sum(-1, keepdim=True)  # [S, L, 1]
    negative = states @ functional.embedding(negatives, table).T  # [S, L, K]
    negative = negative.masked_fill(targets[..., None] == negatives, float("-inf"))
    logits = torch.cat([positive, negative], dim=-1).flatten(0, 1)  # [S · L, 1 + K]
    losses = functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64), reduction="none")
    return (losses * real.flatten()).sum() / real.sum()


def _states(encoder: SASRec, vectors: Tensor, real: Tensor) -> Tensor:
    """Computes the user vector after each place, [S, L, d]; what stands at padding has no meaning."""
    x = encoder._embed(vectors)  # [S, L, d]
    future = torch.full((x.shape[1], x.shape[1]), FAR_BELOW).triu(1)  # [L, L]
    mask = future + torch.where(real, 0.0, FAR_BELOW)[:, None, None, :]  # [S, 1, L, L]
    for block in encoder.blocks:
        x = block(x, mask)
    states: Tensor = encoder.norm(x)
    return states
