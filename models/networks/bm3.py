"""Recommends with BM3: no negatives, but targets that a second, masked view of the same vectors gives.

Zhou et al., Bootstrap Latent Representations for Multi-modal Recommendation, WWW 2023. With E_u [U, d] and
E_i [I, d] learned, X_m [I, f] the frozen features of modality m, and Â the normalised graph of users and
items:

    G   = mean(G_0, ..., G_L),  G_0 = [E_u ; E_i],  G_{l+1} = Â G_l                                 (1)
    u   = G_users,  i = G_items + E_i,  x_m = X_m W_m + b_m                                        (2)
    f(a) = a W_p + b_p, one predictor for all                                                      (3)
    ũ   = sg(dropout_p(u)), ĩ and x̃_m likewise: targets without a gradient                         (4)
    c(a, b) = 1 - mean cos(f(a), b) over the pairs of the batch                                    (5)
    L   = c(u, ĩ) + c(i, ũ)                                        reconstruction of the graph
          + γ Σ_m [c(x_m, ĩ) + c(x_m, x̃_m)]                        alignment between and within modalities
          + λ (‖u‖ + ‖i‖) / I                                      all vectors, not the batch's    (6)

The score is f(u) · f(i), biases included and lengths as they are. Features are frozen by default (the paper's
words); ``train_features`` has what the authors' code does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, dropout, embedding, pad

from models.networks.base import TrainingData
from models.networks.config import LARGEST_SIZE
from models.networks.graph.recommender import (
    Contents,
    GraphConfig,
    GraphRecommender,
    GraphSection,
    PairConfig,
    light_propagation,
    table,
)

BLOCKS = 64
"""Number of blocks of rows that a norm is summed in."""


@dataclass(frozen=True)
class BM3Section(GraphSection):
    """The ``[network]`` section.

    Attributes:
        layers: L, products with the graph, at least 0.
        dropout: p in [0, 1), of the targets.
        train_features: whether the features are trained too, as in the authors' code.
    """

    layers: int
    dropout: float
    train_features: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.layers <= LARGEST_SIZE:
            raise ValueError(f"layers must be from 0 to {LARGEST_SIZE}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout}")


@dataclass(frozen=True)
class BM3Training(PairConfig):
    """The ``[training]`` section.

    Attributes:
        content_weight: γ, of the alignments, at least 0.
        regularisation: λ, of the lengths of all vectors, at least 0.
    """

    content_weight: float
    regularisation: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.content_weight, self.regularisation) < 0:
            raise ValueError("content_weight and regularisation must not be negative")


@dataclass(frozen=True, kw_only=True)
class BM3Config(GraphConfig):
    """All sections of BM3."""

    network: BM3Section
    training: BM3Training


class BM3(GraphRecommender):
    """BM3; a batch is pairs of users and items, without negatives."""

    config_type = BM3Config
    learning: BM3Training

    def __init__(self, config: BM3Config, data: TrainingData) -> None:
        super().__init__(config, data)
        self.network = config.network
        d = config.network.dimension
        self.user_table = table(self.graph.users, d)  # E_u
        self.item_table = table(self.graph.items, d)  # E_i
        self.propagation = self.graph.symmetric()  # Â
        self.predictor = _linear(d, d)  # f
        self.projections = nn.ModuleList()
        for modality in config.modalities:
            contents = Contents(*data.features[modality], trained=config.network.train_features)
            self.projections.append(nn.Sequential(contents, _linear(contents.values.shape[1], d)))

    def batches(self, generator: torch.Generator) -> Sequence[Tensor]:
        """Takes every edge once, in random order: user and item, int64 [B, 2]."""
        order = torch.randperm(len(self.graph.pairs), generator=generator)
        return torch.split(self.graph.pairs[order], self.learning.batch)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Computes equation (6) of pairs int64 [B, 2]."""
        users, items = self._vectors()
        # The batch's different users and items alone, each with one mask: R_u and R_i rows for B pairs.
        chosen, user = torch.unique(batch[:, 0], return_inverse=True)  # [R_u], [B]
        taken, item = torch.unique(batch[:, 1], return_inverse=True)  # [R_i], [B]
        u, i = embedding(chosen, users), embedding(taken, items)  # [R_u, d], [R_i, d]
        user_target, item_target = self.target(u)[user], self.target(i)[item]  # [B, d] each
        loss = misalignment(embedding(user, self.predictor(u)), item_target)
        loss = loss + misalignment(embedding(item, self.predictor(i)), user_target)
        for project in self.projections:
            x = project(taken)  # [R_i, d]
            predicted, own = embedding(item, self.predictor(x)), self.target(x)[item]  # [B, d] each
            aligned = misalignment(predicted, item_target) + misalignment(predicted, own)
            loss = loss + self.learning.content_weight * aligned
        lengths = (frobenius(users) + frobenius(items)) / len(items)
        return loss + self.learning.regularisation * lengths

    def target(self, vectors: Tensor) -> Tensor:
        """Makes equation (4), vectors [R, d] with some values left out, through which no gradient flows."""
        return dropout(vectors.detach(), self.network.dropout)

    def item_vectors(self) -> Tensor:
        """Computes f(i), [items, d]."""
        vectors: Tensor = self.predictor(self._vectors()[1])
        return vectors

    def user_vectors(self) -> Tensor:
        """Computes f(u), [users, d]."""
        vectors: Tensor = self.predictor(self._vectors()[0])
        return vectors

    def _vectors(self) -> tuple[Tensor, Tensor]:
        """Computes equations (1) and (2): u [U, d] and i [I, d]."""
        users, items = light_propagation(
            self.propagation, self.user_table, self.item_table, self.network.layers
        )
        return users, items + self.item_table


def misalignment(predicted: Tensor, target: Tensor) -> Tensor:
    """Computes c of equation (5), one minus the mean cosine of rows [B, d], from 0 to 2."""
    return 1 - cosine_similarity(predicted, target, dim=1).mean()


def frobenius(matrix: Tensor) -> Tensor:
    """Computes the Frobenius norm of [n, d], the same bits with any number of threads."""
    norm: Tensor = _Frobenius.apply(matrix)  # type: ignore[no-untyped-call]
    return norm


class _Frobenius(torch.autograd.Function):
    """The norm by rows and then by blocks of rows; its gradient is one product, where torch writes three."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        rows = torch.linalg.vector_norm(matrix, dim=1)  # [n]
        # One sum over many rows would depend on the number of threads.
        blocks = pad(rows, (0, -len(rows) % BLOCKS)).view(BLOCKS, -1)
        norm: Tensor = torch.linalg.vector_norm(torch.linalg.vector_norm(blocks, dim=1))
        ctx.save_for_backward(matrix, norm)
        return norm

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        matrix, norm = ctx.saved_tensors
        gradient: Tensor = matrix * torch.where(norm > 0, gradients[0] / norm, 0.0)
        return gradient


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_normal_(layer.weight)
    return layer
