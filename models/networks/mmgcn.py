"""Recommends with MMGCN, one graph network per modality (Wei et al., MM 2019).

Users and items are the N = U + I nodes of a graph, and each training pair is an edge. Every modality m has
a branch. It begins with a preference P of each user and the features F of the items, and takes in the mean of
the neighbours, layer by layer. Ids have vectors Z [N, d], which all branches share:

    x_0 = rows of [P; F], each at unit length                               [N, d_m]
    h   = LReLU(A x W1),          A = D^-1 adjacency, W1: d_m -> d_m        (equation 1)
    x^  = LReLU(x W2 + b2) + Z,   W2: d_m -> d                              (equation 5)
    x   = LReLU([h; x^] W3 + b3)                                            [N, d]
    R   = mean of the branches' last x; score = R_u · R_i

F is the frozen feature X, or X W + b where the modality has a latent size; an item without the feature has
the mean of the others. Of a single modality R is its branch.

The authors' code and MMRec's keep P and Z as plain tensors, which no optimiser knows: random codes that never
change. ``trainable_codes = false`` does the same; with ``true`` they are learned, as in the paper.

What keeps a step cheap: (A x) W1 equals A (x W1). W1 of the first layer is wide, so that layer computes users
and items apart, and of each side the form that multiplies W1 with fewer rows. A side that is fixed (features
without latent size, codes that are not trained) needs no gradient, and its means are taken once an epoch.
Later layers compute (A x) W1, of the batch's nodes and those that these depend on alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, leaky_relu, linear

from models.networks.base import TrainingData
from models.networks.config import LARGEST_SIZE
from models.networks.graph.interaction_graph import InteractionGraph, SparseProduct
from models.networks.graph.recommender import (
    Contents,
    GraphConfig,
    GraphRecommender,
    GraphSection,
    PairConfig,
    bpr,
)

MOST_OF_THE_GRAPH = 0.8
"""Share of the nodes from which on a layer computes all of them, since picking them out costs time too."""


@dataclass(frozen=True)
class MMGCNSection(GraphSection):
    """The size of the network, and which of its readings is built.

    Attributes:
        layers: number of layers, at least 1.
        text_latent: width that texts are projected to before the first layer; 0 leaves them as they are.
        image_latent: the same of pictures.
        trainable_codes: whether user preferences P and ids Z are learned (paper), or stay random (the
            authors' code, MMRec).
    """

    layers: int
    text_latent: int
    image_latent: int
    trainable_codes: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.layers <= LARGEST_SIZE:
            raise ValueError(f"layers must be at least 1 and at most {LARGEST_SIZE}")
        if not all(0 <= each <= LARGEST_SIZE for each in (self.text_latent, self.image_latent)):
            raise ValueError(f"text_latent and image_latent must be from 0, for none, to {LARGEST_SIZE}")


@dataclass(frozen=True)
class MMGCNTraining(PairConfig):
    """The ``[training]`` section.

    Attributes:
        regularisation: lambda, weight of the squares of Z and of the picture branch's P in the loss, at least
            0; without trainable codes the loss shows it and no weight feels it.
    """

    regularisation: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.regularisation < 0:
            raise ValueError("regularisation must not be negative")


@dataclass(frozen=True, kw_only=True)
class MMGCNConfig(GraphConfig):
    """All sections of MMGCN."""

    network: MMGCNSection
    training: MMGCNTraining


class Layer(nn.Module):
    """Joins what a node's neighbours, its own vector and its id say: [n, d_m] -> [n, d]."""

    def __init__(self, inputs: int, dimension: int, first: bool) -> None:
        super().__init__()
        self.neighbours = nn.Linear(inputs, inputs, bias=False)  # W1
        self.own = nn.Linear(inputs, dimension)  # W2, b2
        self.joined = nn.Linear(inputs + dimension, dimension)  # W3, b3
        nn.init.xavier_normal_(self.neighbours.weight)
        nn.init.xavier_normal_(self.own.weight)
        if first:  # the authors leave W3 of the later layers as torch makes it
            nn.init.xavier_normal_(self.joined.weight)

    def forward(self, x: Tensor, mean: Tensor, ids: Tensor, weighted: bool = False) -> Tensor:
        """Computes some nodes.

        Args:
            x: their vectors [n, d_m].
            mean: A x, the means of their neighbours [n, d_m].
            ids: their Z [n, d].
            weighted: whether ``mean`` is A (x W1), which is the same as (A x) W1.

        Returns:
            [n, d].
        """
        h = leaky_relu(mean if weighted else self.neighbours(mean), inplace=True)  # [n, d_m], equation 1
        own = leaky_relu(self.own(x), inplace=True) + ids  # [n, d], equation 5
        # [h; own] W3 + b3 as a sum of two products: nothing as wide as both is written.
        for_h, for_own = torch.split(self.joined.weight, [h.shape[1], own.shape[1]], dim=1)
        return leaky_relu(linear(h, for_h) + linear(own, for_own, self.joined.bias), inplace=True)  # [n, d]


class Means(nn.Module):
    """Takes means over the neighbours: A, and its rows of users and of items alone."""

    def __init__(self, graph: InteractionGraph) -> None:
        super().__init__()
        self.of_all = graph.mean()  # [N, d] -> [N, d]
        self.of_items = graph.mean_of_items()  # [I, d] -> [U, d]
        self.of_users = graph.mean_of_users()  # [U, d] -> [I, d]


class Side:
    """The users' or the items' part of x_0, and its means over the neighbours of the nodes on the other side.

    Attributes:
        vectors: rows of x_0 [n, d_m].
        weighted: whether ``means`` gives A (x W1) and not A x. It does where this side has fewer nodes than
            the other one, so that W1 multiplies fewer rows.
    """

    def __init__(self, vectors: Tensor, mean: SparseProduct) -> None:
        self.vectors, self._mean = vectors, mean
        self.weighted = mean.shape[1] < mean.shape[0]
        self._means: Tensor | None = None if self.weighted else mean(vectors)

    def means(self, layer: Layer) -> Tensor:
        """Computes, for each node of the other side, the mean of its neighbours on this one: [m, d_m]."""
        if self._means is not None:
            return self._means
        means: Tensor = self._mean(layer.neighbours(self.vectors))
        return means


class Branch(nn.Module):
    """Computes the vectors of all nodes from one modality.

    Args:
        contents: frozen features [I, f].
        latent: width that they are projected to, 0 for none.
        users: U.
        config: sizes, and whether preferences are learned.
    """

    preferences: Tensor

    def __init__(self, contents: Contents, latent: int, users: int, config: MMGCNSection) -> None:
        super().__init__()
        self.contents = contents
        self.project = nn.Linear(contents.values.shape[1], latent) if latent else None
        width = latent or contents.values.shape[1]  # d_m
        _register_codes(self, "preferences", users, width, config.trainable_codes)  # P [U, d_m]
        widths = [width] + [config.dimension] * (config.layers - 1)
        self.layers = nn.ModuleList(Layer(n, config.dimension, at == 0) for at, n in enumerate(widths))
        self._fixed: dict[str, Side] = {}

    def forward(self, ids: Tensor, means: Means, needed: Sequence[Tensor | None]) -> Tensor:
        """Computes the last layer.

        Args:
            ids: Z [N, d].
            means: A.
            needed: bool [N] for each layer, True for the nodes that it has to compute; None for all.

        Returns:
            [N, d], zeros for nodes that the last layer need not compute.
        """
        first, *later = self.layers
        assert isinstance(first, Layer)
        x = self._first(first, ids, means, needed[0])
        for layer, nodes in zip(later, needed[1:], strict=True):
            mean = means.of_all(x)  # [N, d]
            x = _computed(layer, x, mean, ids, nodes)
        return x

    def remember_what_is_fixed(self, means: Means) -> None:
        """Computes the inputs of the first layer that no step changes; only training reads them."""
        with torch.no_grad():
            self._fixed = {}
            if not self.preferences.requires_grad:
                self._fixed["users"] = self._users(means)
            if self.project is None:
                self._fixed["items"] = self._items(means)

    def _first(self, layer: Layer, ids: Tensor, means: Means, nodes: Tensor | None) -> Tensor:
        fixed = self._fixed if self.training else {}
        users = fixed.get("users") or self._users(means)
        items = fixed.get("items") or self._items(means)
        sizes = [len(users.vectors), len(items.vectors)]
        user_ids, item_ids = torch.split(ids, sizes)
        user_nodes, item_nodes = (None, None) if nodes is None else torch.split(nodes, sizes)
        of_users, of_items = users.means(layer), items.means(layer)  # [I, d_m], [U, d_m]
        return torch.cat(
            [
                _computed(layer, users.vectors, of_items, user_ids, user_nodes, items.weighted),
                _computed(layer, items.vectors, of_users, item_ids, item_nodes, users.weighted),
            ]
        )  # [N, d]

    def _users(self, means: Means) -> Side:
        return Side(unit_length(self.preferences), means.of_users)  # [U, d_m]

    def _items(self, means: Means) -> Side:
        features = self.contents.values  # X [I, f]
        if self.project is not None:
            features = self.project(features)  # F [I, d_m]
        return Side(unit_length(features), means.of_items)


class MMGCN(GraphRecommender):
    """Averages the branches of the modalities."""

    config_type = MMGCNConfig
    learning: MMGCNTraining
    ids: Tensor
    branches: dict[str, Branch]

    def __init__(self, config: MMGCNConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        network, self.layers = config.network, config.network.layers
        self.users = self.graph.users
        self.means = Means(self.graph)
        _register_codes(self, "ids", self.graph.nodes, network.dimension, network.trainable_codes)  # Z [N, d]
        self.branches = nn.ModuleDict()  # type: ignore[assignment]
        for modality in network.modalities:
            latent = network.text_latent if modality == "text" else network.image_latent
            contents = Contents(*data.features[modality])
            self.branches[modality] = Branch(contents, latent, self.users, network)

    def item_vectors(self) -> Tensor:
        """Computes R of the items, [I, d]."""
        return self.representations()[self.users :]

    def user_vectors(self) -> Tensor:
        """Computes R of the users, [U, d]."""
        return self.representations()[: self.users]

    def batches(self, generator: torch.Generator) -> Sequence[Tensor]:
        """Takes every edge once, in random order: user, item and negative, int64 [B, 3]."""
        for branch in self.branches.values():
            branch.remember_what_is_fixed(self.means)
        return super().batches(generator)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Computes BPR and the weight of the codes; all that is random was drawn with the batch.

        -mean log sigma(s_pos - s_neg) + lambda (mean(Z_u^2 + Z_i^2) + mean(P_v^2)), where the first mean is
        over the users, each twice, beside their positive and negative items, and P_v is of the picture
        branch. P of the text branch is not in it (authors' code).
        """
        users, positives, negatives = (batch + batch.new_tensor([0, self.users, self.users])).T  # nodes, [B]
        vectors = self.representations(torch.cat([users, positives, negatives]))  # [N, d]
        chosen, liked, other = (embedding(nodes, vectors) for nodes in (users, positives, negatives))
        squares = self.learning.regularisation * self._squares(users, positives, negatives)
        return bpr(chosen, liked, other) + squares

    def representations(self, nodes: Tensor | None = None) -> Tensor:
        """Computes R.

        Args:
            nodes: nodes that are asked for, int64; all by default.

        Returns:
            [N, d], users first; rows of nodes that are not asked for mean nothing.
        """
        needed = self._needed(nodes)
        branches = [branch(self.ids, self.means, needed) for branch in self.branches.values()]
        return torch.stack(branches).mean(dim=0)  # [N, d]

    def _squares(self, users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        twice = embedding(torch.cat([users, users]), self.ids)  # [2B, d]
        items = embedding(torch.cat([positives, negatives]), self.ids)  # [2B, d]
        squares = (twice.square() + items.square()).mean()
        if "image" in self.branches:
            squares = squares + self.branches["image"].preferences.square().mean()
        return squares

    def _needed(self, nodes: Tensor | None) -> list[Tensor | None]:
        """Finds the nodes that each layer has to compute: those asked for, their neighbours, and so on."""
        if nodes is None:
            return [None] * self.layers
        mask = torch.zeros(self.graph.nodes, dtype=torch.bool, device=nodes.device)
        mask[nodes] = True
        needed: list[Tensor | None] = []
        for _ in range(self.layers):
            needed.insert(0, mask if mask.float().mean() < MOST_OF_THE_GRAPH else None)
            mask = mask | (self.means.of_all(mask[:, None].float())[:, 0] > 0)
        return needed


def unit_length(x: Tensor) -> Tensor:
    """Scales rows to unit length, [n, d] -> [n, d]; in a quarter of the time of torch's normalize."""
    scaled: Tensor = _UnitLength.apply(x)  # type: ignore[no-untyped-call]
    return scaled


def _register_codes(module: nn.Module, name: str, rows: int, width: int, trainable: bool) -> None:
    """Draws codes [rows, width], and makes them a parameter, or a buffer that is saved with the weights."""
    drawn = nn.init.xavier_normal_(torch.empty(rows, width))
    if trainable:
        module.register_parameter(name, nn.Parameter(drawn))
    else:
        module.register_buffer(name, drawn)


def _computed(
    layer: nn.Module, x: Tensor, mean: Tensor, ids: Tensor, nodes: Tensor | None, weighted: bool = False
) -> Tensor:
    """Computes a layer, [n, d_m] -> [n, d]; for the nodes of a mask bool [n] alone leaves the others zero."""
    if nodes is None:
        computed: Tensor = layer(x, mean, ids, weighted)
        return computed
    rows = nodes.nonzero()[:, 0]
    computed = layer(embedding(rows, x), embedding(rows, mean), embedding(rows, ids), weighted)
    return computed.new_zeros(len(nodes), computed.shape[1]).index_copy(0, rows, computed)


class _UnitLength(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(1e-12)  # [n, 1]
        unit: Tensor = x / length
        ctx.save_for_backward(unit, length)
        return unit

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        unit, length = ctx.saved_tensors
        along = torch.einsum("nd,nd->n", gradients[0], unit)[:, None]  # [n, 1]
        gradient: Tensor = torch.addcmul(gradients[0], unit, along, value=-1).div_(length)
        return gradient
