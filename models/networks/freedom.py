"""Recommends with FREEDOM: a frozen graph of similar items, and a pruned graph of users and items.

Zhou & Shen, A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal Recommendation,
ACM MM 2023. With E_u [U, d] and E_i [I, d] learned, X_m [I, f] the frozen features of modality m, and A the
edges of the training part:

    S_m = 1/k at the k nearest items of each row by the cosine of X_m, itself included            (1)
    S   = Σ_m α_m S_m, with α_image + α_text = 1                                                    (2)
    p(u, i) ∝ 1 / sqrt(d_u d_i): each epoch keeps ⌊E (1 - ρ)⌋ edges, drawn without replacement     (3)
    Â_ρ = D^-1/2 A_ρ D^-1/2 of the kept edges, with their own degrees                              (4)
    h   = S^L E_i                                                                                  (5)
    G   = mean(G_0, ..., G_L'),  G_0 = [E_u ; E_i],  G_{l+1} = Â_ρ G_l                             (6)
    u   = G_users,  i = G_items + h                                                                (7)
    L   = BPR(u·i⁺, u·i⁻) + λ Σ_m BPR(u·x_m⁺, u·x_m⁻),  x_m = X_m W_m + b_m                        (8)

The score is u · i, with ρ = 0. Stated differences to the authors' code: features are frozen by default (the
paper's words; ``train_features`` has the code's), and an item that lacks a modality has neighbours from the
other one alone, at full weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from models.networks.base import TrainingData
from models.networks.config import LARGEST_SIZE
from models.networks.graph.interaction_graph import InteractionGraph, SparseProduct, nearest_items
from models.networks.graph.recommender import (
    Contents,
    GraphConfig,
    GraphRecommender,
    GraphSection,
    PairConfig,
    bpr,
    light_propagation,
    table,
)


@dataclass(frozen=True)
class FreedomSection(GraphSection):
    """The ``[network]`` section.

    Attributes:
        neighbours: k, of an item in the item graph, itself included, at least 1.
        image_weight: α_image in [0, 1], where there are both modalities.
        item_layers: L, products with the item graph, at least 0.
        layers: L', products with the graph of users and items, at least 0.
        train_features: whether the features are trained too, as in the authors' code.
    """

    neighbours: int
    image_weight: float
    item_layers: int
    layers: int
    train_features: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.neighbours <= LARGEST_SIZE:
            raise ValueError(f"neighbours must be at least 1 and at most {LARGEST_SIZE}")
        if not 0 <= self.image_weight <= 1:
            raise ValueError(f"image_weight must be in [0, 1], not {self.image_weight}")
        if not (0 <= self.item_layers <= LARGEST_SIZE and 0 <= self.layers <= LARGEST_SIZE):
            raise ValueError(f"item_layers and layers must be from 0 to {LARGEST_SIZE}")


@dataclass(frozen=True)
class FreedomTraining(PairConfig):
    """The ``[training]`` section.

    Attributes:
        pruning: ρ in [0, 1), share of the edges that an epoch leaves out.
        content_weight: λ, of the losses on projected contents, at least 0; 0 leaves the projections out.
    """

    pruning: float
    content_weight: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.pruning < 1:
            raise ValueError(f"pruning must be in [0, 1), not {self.pruning}")
        if self.content_weight < 0:
            raise ValueError("content_weight must not be negative")


@dataclass(frozen=True, kw_only=True)
class FreedomConfig(GraphConfig):
    """All sections of FREEDOM."""

    network: FreedomSection
    training: FreedomTraining


class Freedom(GraphRecommender):
    """FREEDOM; the whole graph is kept beside the pruned one of the current epoch."""

    config_type = FreedomConfig
    learning: FreedomTraining

    def __init__(self, config: FreedomConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.network = config.network
        self.user_table = table(self.graph.users, config.network.dimension)  # E_u
        self.item_table = table(self.graph.items, config.network.dimension)  # E_i
        self.propagation = self.graph.symmetric()  # Â
        self.pruned = self.propagation  # Â_ρ
        self.item_graph = item_graph(
            {modality: data.features[modality] for modality in config.modalities},
            config.network.neighbours,
            config.network.image_weight,
        )
        self.projections = nn.ModuleList()
        if self.learning.content_weight:  # without it nothing would give them a gradient
            for modality in config.modalities:
                contents = Contents(*data.features[modality], trained=config.network.train_features)
                self.projections.append(
                    nn.Sequential(contents, nn.Linear(contents.values.shape[1], config.network.dimension))
                )

    def batches(self, generator: torch.Generator) -> Sequence[Tensor]:
        """Prunes the graph anew, and takes every edge once, those pruned too: int64 [B, 3]."""
        if self.learning.pruning:
            kept = kept_edges(self.graph, self.learning.pruning, generator)
            self.pruned = self.graph.symmetric(kept).to(self.user_table.device)
        return super().batches(generator)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Computes equation (8) of triples int64 [B, 3]."""
        users, items = self._vectors(self.pruned)
        chosen = embedding(batch[:, 0], users)  # [B, d]
        taken, drawn = batch[:, 1], batch[:, 2]
        loss = bpr(chosen, embedding(taken, items), embedding(drawn, items))
        # Contents of the batch's R different items alone, each once.
        used, index = torch.unique(batch[:, 1:], return_inverse=True)  # [R], [B, 2]
        for project in self.projections:
            contents = project(used)  # [R, d]
            positive, negative = (embedding(side, contents) for side in index.T)  # [B, d] each
            loss = loss + self.learning.content_weight * bpr(chosen, positive, negative)
        return loss

    def item_vectors(self) -> Tensor:
        """Computes i of the whole graph, [items, d]."""
        return self._vectors(self.propagation)[1]

    def user_vectors(self) -> Tensor:
        """Computes u of the whole graph, [users, d]."""
        return self._vectors(self.propagation)[0]

    def _vectors(self, product: SparseProduct) -> tuple[Tensor, Tensor]:
        """Computes equations (5) to (7): u [U, d] and i [I, d]."""
        similar: Tensor = self.item_table
        for _ in range(self.network.item_layers):
            similar = self.item_graph(similar)  # h [I, d]
        users, items = light_propagation(product, self.user_table, self.item_table, self.network.layers)
        return users, items + similar


def item_graph(
    features: Mapping[str, tuple[Tensor, Tensor]], neighbours: int, image_weight: float
) -> SparseProduct:
    """Makes S of equations (1) and (2), [items, items].

    The rows of S_m have k ones, so dividing by the roots of the sums of both its rows gives 1/k. S is not
    symmetric. Where an item has one modality, that one has its full weight; without any, its row is zero.

    Args:
        features: float [items, f] and bool [items], True where the item has the feature, by modality.
        neighbours: k; fewer where not so many items have the feature.
        image_weight: α_image; α_text is the rest.
    """
    weights = {"image": image_weight, "text": 1 - image_weight}
    items = len(next(iter(features.values()))[1])
    entries: list[Tensor] = []
    values: list[Tensor] = []
    total = torch.zeros(items, dtype=torch.float64)  # Σ α_m over the modalities of each item
    for modality, (vectors, present) in features.items():
        pairs = nearest_items(vectors, present, neighbours)  # [2, n]
        counts = torch.bincount(pairs[0], minlength=items)  # [items], k or 0
        weight = weights[modality] if len(features) > 1 else 1.0
        total += weight * (counts > 0)
        entries.append(pairs)
        values.append(weight / counts[pairs[0]].double())
    rows, columns = torch.cat(entries, dim=1)
    scaled = torch.cat(values) / torch.where(total > 0, total, 1.0)[rows]
    return SparseProduct(rows, columns, scaled, (items, items))


def kept_edges(graph: InteractionGraph, pruning: float, generator: torch.Generator) -> Tensor:
    """Draws the edges of an epoch by equation (3): numbers of edges, int64 [⌊E (1 - ρ)⌋], in order.

    The largest log(x) / w of a uniform x per edge are a draw without replacement with probability ∝ w
    (Efraimidis & Spirakis, 2006), of any number of edges; ``torch.multinomial`` takes 2^24 at most.
    """
    users, items = graph.pairs.T
    weights = (graph.user_degrees[users] * graph.item_degrees[items]) ** -0.5  # [E]
    drawn = torch.rand(len(weights), generator=generator, dtype=torch.float64).log() / weights
    kept = int(len(weights) * (1 - pruning))
    return drawn.topk(kept).indices.sort().values
