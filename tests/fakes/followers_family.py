"""A model family that counts which item followed which in the training data, and recommends by these counts.

It shows all that a new family needs: this file, and one line of ``models.networks.registry``.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

from models.networks.base import SequenceEncoder, SequenceNetwork, TrainingData
from models.networks.config import Config


class Lookup(SequenceEncoder):
    """An encoder that looks up the last item's row in a table of counts."""

    counts: Tensor

    def __init__(self, counts: Tensor) -> None:
        super().__init__()
        self.length, self.dimension = 1, len(counts)
        self.register_buffer("counts", counts)

    def forward(self, vectors: Tensor) -> Tensor:
        """One-hot vectors [B, n, items] -> counts [B, n, items]."""
        return self.counts[vectors.argmax(dim=-1)]


class Followers(SequenceNetwork):
    """A network whose item vectors are one-hot, so that a score is a count."""

    config_type = Config

    def __init__(self, config: Config, data: TrainingData) -> None:
        super().__init__(config, data)
        counts = torch.zeros(data.items, data.items)
        for history in data.histories:
            for item, follower in pairwise(history.tolist()):
                counts[item, follower] += 1
        self.lookup = Lookup(counts)

    def item_vectors(self) -> Tensor:
        return torch.eye(self.lookup.dimension, device=self.lookup.counts.device)

    def user_encoder(self) -> Lookup:
        return self.lookup

    @classmethod
    def restore_encoder(cls, config: Config, weights: Mapping[str, Tensor]) -> Lookup:
        return Lookup(weights["lookup.counts"])
