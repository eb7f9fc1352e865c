"""A tiny model family of graphs: LightGCN (He et al., SIGIR 2020), with users and items as nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.base import GraphNetwork, LearningNetwork, TrainingData
from models.networks.config import Config, LearningConfig


@dataclass(frozen=True)
class GraphSize:
    dimension: int
    layers: int


@dataclass(frozen=True)
class PairConfig(LearningConfig):
    batch: int


@dataclass(frozen=True, kw_only=True)
class TinyGraphConfig(Config):
    network: GraphSize
    training: PairConfig


class TinyGraph(GraphNetwork, LearningNetwork):
    config_type = TinyGraphConfig
    adjacency: Tensor

    def __init__(self, config: TinyGraphConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.learning, self.layers, self.items = config.training, config.network.layers, data.items
        self.users = len(data.histories)
        users = np.repeat(np.arange(self.users), [len(history) for history in data.histories])
        self.pairs = torch.from_numpy(np.stack([users, np.concatenate(data.histories)], axis=1)).long()
        nodes = self.users + self.items
        edges = torch.zeros(nodes, nodes)
        edges[self.pairs[:, 0], self.users + self.pairs[:, 1]] = 1
        edges = edges + edges.T
        scale = edges.sum(dim=1).clamp(min=1) ** -0.5
        # Computed from the training data, so that it need not be saved with the weights.
        self.register_buffer("adjacency", scale[:, None] * edges * scale, persistent=False)
        self.table = nn.Parameter(0.1 * torch.randn(nodes, config.network.dimension))

    def batches(self, generator: torch.Generator) -> Sequence[Tensor]:
        """Returns batches of user, item, and a random item as negative: [B, 3]."""
        order = torch.randperm(len(self.pairs), generator=generator)
        drawn = torch.randint(self.items, (len(order), 1), generator=generator)
        return torch.cat([self.pairs[order], drawn], dim=1).split(self.learning.batch)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        users, items = self._propagate()
        chosen, positive, negative = users[batch[:, 0]], items[batch[:, 1]], items[batch[:, 2]]
        return -functional.logsigmoid((chosen * (positive - negative)).sum(dim=1)).mean()

    def item_vectors(self) -> Tensor:
        return self._propagate()[1]

    def user_vectors(self) -> Tensor:
        return self._propagate()[0]

    def _propagate(self) -> tuple[Tensor, Tensor]:
        layer, total = self.table, self.table
        for _ in range(self.layers):
            layer = self.adjacency @ layer  # [users + items, d]
            total = total + layer
        users, items = (total / (self.layers + 1)).split([self.users, self.items])
        return users, items
