"""Holds what recommenders on the graph of users and items share: settings, pairs, contents and propagation.

MMGCN, FREEDOM and BM3 have a vector for each user of the training data, and learn from pairs of a user and
an item. They know the edges of the training part alone, so the item of a user's validation is unknown to them
at test time, while a sequence family reads it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import embedding

from models.networks.base import GraphNetwork, LearningNetwork, TrainingData
from models.networks.config import LARGEST_SIZE, Config, LearningConfig
from models.networks.graph.interaction_graph import InteractionGraph, SparseProduct

log = logging.getLogger(__name__)

ContentModality = Literal["text", "image"]
"""What a graph family reads of an item."""

LARGEST_BATCH = 2**20
"""Largest number of pairs of a step; a larger one is a slip, and would only fill the memory."""


@dataclass(frozen=True)
class GraphSection:
    """What the ``[network]`` sections of graph families have in common.

    Attributes:
        dimension: d, of user and item vectors, at least 1.
        modalities: contents of an item that are read, one or both of ``text`` and ``image``; of one that is
            not named, everything falls away.
    """

    dimension: int
    modalities: tuple[ContentModality, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.dimension <= LARGEST_SIZE:
            raise ValueError(f"dimension must be at least 1 and at most {LARGEST_SIZE}")
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError("modalities must name text, image or both, each once")


@dataclass(frozen=True)
class PairConfig(LearningConfig):
    """The ``[training]`` section of a family that learns from pairs of a user and an item.

    Attributes:
        batch: number of pairs of a step, at least 1 and at most ``LARGEST_BATCH``.
    """

    batch: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.batch <= LARGEST_BATCH:
            raise ValueError(f"batch must be at least 1 and at most {LARGEST_BATCH:,}")


@dataclass(frozen=True, kw_only=True)
class GraphConfig(Config):
    """The sections of a graph family; each has its own ``network`` section, and may have more."""

    network: GraphSection
    training: PairConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        layered = {
            "text": self.features.text_pooling == "layers",
            "image": self.features.image_output == "layers",
        }
        for modality in self.modalities:
            if layered.get(modality, False):
                raise ValueError(f"{self.family} reads one vector per {modality}, not one of several layers")

    @property
    def modalities(self) -> tuple[ContentModality, ...]:
        """Names the contents that are read."""
        return self.network.modalities


class GraphRecommender(GraphNetwork, LearningNetwork):
    """Holds the graph, and learns with Adam from pairs and one negative each.

    Attributes:
        graph: users, items and edges of the training part.
    """

    learning: PairConfig

    def __init__(self, config: GraphConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.learning = config.training
        self.graph = InteractionGraph(data.histories, data.items)
        for modality in config.modalities:
            present = data.features[modality][1]
            log.info("%s: items without it %d of %d", modality, len(present) - present.sum(), len(present))

    def batches(self, generator: torch.Generator) -> Sequence[Tensor]:
        """Takes every edge once, in random order: user, item and negative, int64 [B, 3]."""
        negatives = self.graph.negatives(self.graph.pairs[:, 0], generator)
        order = torch.randperm(len(negatives), generator=generator)
        triples = torch.cat([self.graph.pairs, negatives[:, None]], dim=1)  # [E, 3]
        return torch.split(triples[order], self.learning.batch)

    def optimiser(self) -> torch.optim.Optimizer:
        """Makes Adam with its default betas, as the authors of these families use it.

        Fused, it passes once over each weight. A checkpoint from before it was fused goes on without.
        """
        return torch.optim.Adam(
            self.parameters(),
            lr=self.learning.learning_rate,
            weight_decay=self.learning.weight_decay,
            fused=True,
        )


class Contents(nn.Module):
    """Holds the features of one modality; an item without them has the mean of all others.

    Args:
        features: float [items, f].
        present: bool [items], True where the item has the feature.
        trained: whether the features are weights, as in the authors' code; else they stay as they are.
    """

    values: Tensor

    def __init__(self, features: Tensor, present: Tensor, trained: bool = False) -> None:
        super().__init__()
        mean = features[present].mean(dim=0) if present.any() else torch.zeros(features.shape[1])
        values = torch.where(present[:, None], features, mean)  # [items, f]
        if trained:
            self.values = nn.Parameter(values)
        else:  # not in the state dict: frozen features have their own cache, and checkpoints stay small
            self.register_buffer("values", values, persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Looks up the features of rows: int64 [R] -> [R, f]."""
        return embedding(rows, self.values)


def table(rows: int, dimension: int) -> nn.Parameter:
    """Makes a table of vectors [rows, d] with uniform Xavier weights, the start of LightGCN's embeddings."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(rows, dimension)))


def light_propagation(
    product: SparseProduct, users: Tensor, items: Tensor, layers: int
) -> tuple[Tensor, Tensor]:
    """Propagates without weights, and takes the mean of all layers (LightGCN, He et al., SIGIR 2020, 3.1).

    Args:
        product: normalised adjacency Â of users and items, symmetric.
        users: E_u [users, d].
        items: E_i [items, d].
        layers: number of products; 0 leaves the vectors as they are.

    Returns:
        Users [users, d] and items [items, d] of G = mean(G_0, ..., G_L), G_0 = [E_u ; E_i], G_{l+1} = Â G_l.
    """
    vectors: tuple[Tensor, Tensor] = _LightPropagation.apply(  # type: ignore[no-untyped-call]
        users, items, product, layers
    )
    return vectors


def bpr(chosen: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Computes the Bayesian personalised ranking loss, the mean of -log σ(u·i⁺ - u·i⁻) (Rendle et al., 2009).

    Args:
        chosen: user vectors [B, d].
        positive: vectors of the users' items [B, d].
        negative: vectors of the negatives [B, d].
    """
    return -functional.logsigmoid((chosen * (positive - negative)).sum(dim=1)).mean()


class _LightPropagation(torch.autograd.Function):
    """The mean of all layers and its gradient, each summed in place.

    A step is bound by memory: every [nodes, d] that autograd would write for a sum or a slice costs as much
    as a third of a product.
    """

    @staticmethod
    def forward(
        ctx: Any, users: Tensor, items: Tensor, product: SparseProduct, layers: int
    ) -> tuple[Tensor, Tensor]:
        ctx.product, ctx.layers, ctx.users = product, layers, len(users)
        total = torch.cat([users, items])  # G_0 [nodes, d]
        layer = total
        for _ in range(layers):
            layer = product(layer)
            total += layer
        total /= layers + 1
        return total[: len(users)], total[len(users) :]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        # Â is symmetric: g + Â (g + Â (g + ...)), from the last layer to the first.
        own = torch.cat(gradients).div_(ctx.layers + 1)  # [nodes, d]
        found = own
        for _ in range(ctx.layers):
            found = ctx.product(found)
            found += own
        return found[: ctx.users], found[ctx.users :], None, None
