"""Trains FREEDOM, BM3 and MMGCN as they are usually written: coalesced sparse matrices, negatives one by one.

Every item is projected in every step, and negatives are drawn pair by pair in Python, as in MMRec. The
equations are those of the papers, so with equal weights and batches the loss is that of ``models.networks``.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data.dataset import Rows


def interactions(histories: Sequence[Rows]) -> Tensor:
    """Returns the different pairs of user and item of the training part, int64 [E, 2]."""
    pairs = [(user, int(item)) for user, rows in enumerate(histories) for item in np.unique(rows)]
    return torch.tensor(pairs)


def drawn_negatives(pairs: Tensor, seed: int) -> Tensor:
    """Draws an item for every pair that its user has not taken, int64 [E]."""
    draw, taken = random.Random(seed), set(map(tuple, pairs.tolist()))
    items = sorted({item for _, item in taken})
    negatives = []
    for user, _ in pairs.tolist():
        item = draw.sample(items, 1)[0]
        while (user, item) in taken:
            item = draw.sample(items, 1)[0]
        negatives.append(item)
    return torch.tensor(negatives)


def symmetric_adjacency(pairs: Tensor, users: int, items: int) -> Tensor:
    """Builds D^-1/2 A D^-1/2 with degrees + 1e-7, sparse float32 [users + items, users + items]."""
    rows, columns = _both_ways(pairs, users)
    degrees = torch.bincount(rows, minlength=users + items).float() + 1e-7
    return _sparse(rows, columns, degrees[rows] ** -0.5 * degrees[columns] ** -0.5, users + items)


def mean_adjacency(pairs: Tensor, users: int, items: int) -> Tensor:
    """Builds D^-1 A, the mean over neighbours, sparse float32 [users + items, users + items]."""
    rows, columns = _both_ways(pairs, users)
    degrees = torch.bincount(rows, minlength=users + items).float()
    return _sparse(rows, columns, 1 / degrees[rows], users + items)


def pruned(pairs: Tensor, share: float, users: int, items: int) -> Tensor:
    """Draws the edges that FREEDOM keeps in an epoch: FREEDOM, section 3.2, int64 [kept, 2]."""
    degrees = torch.bincount(pairs[:, 0], minlength=users), torch.bincount(pairs[:, 1], minlength=items)
    weights = (degrees[0][pairs[:, 0]] * degrees[1][pairs[:, 1]]).float() ** -0.5
    return pairs[torch.multinomial(weights, int(len(pairs) * (1 - share)))]


def item_neighbours(features: Tensor, k: int) -> Tensor:
    """Builds the item graph of one modality from all cosines at once, sparse float32 [items, items]."""
    unit = functional.normalize(features, dim=1)
    nearest = (unit @ unit.T).topk(k, dim=1).indices  # [items, k]
    rows = torch.arange(len(features)).repeat_interleave(k)
    return _sparse(rows, nearest.flatten(), torch.full((len(rows),), 1 / k), len(features))


class LiteralFreedom(nn.Module):
    """FREEDOM (Zhou & Shen, MM 2023) on texts, with the weights of a network of ours.

    Args:
        weights: ``users`` [users, d], ``items`` [items, d], ``projection`` [d, f] and ``bias`` [d].
        features: float32 [items, f].
        neighbours: item graph, sparse [items, items].
        strength: λ, the weight of the losses of the modalities.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], features: Tensor, neighbours: Tensor, strength: float
    ) -> None:
        super().__init__()
        self.tables = _parameters(weights)
        self.features, self.neighbours, self.strength = features, neighbours, strength

    def loss(self, adjacency: Tensor, batch: Tensor) -> Tensor:
        """Computes the loss of user, item and negative, int64 [B, 3], on this epoch's graph."""
        users, items = self.tables["users"], self.tables["items"]
        layers = [torch.cat([users, items])]
        for _ in range(2):
            layers.append(torch.sparse.mm(adjacency, layers[-1]))
        user_vectors, item_vectors = torch.stack(layers).mean(dim=0).split([len(users), len(items)])
        item_vectors = item_vectors + torch.sparse.mm(self.neighbours, items)
        texts = functional.linear(self.features, self.tables["projection"], self.tables["bias"])
        chosen = user_vectors[batch[:, 0]]
        return _bpr(chosen, item_vectors, batch) + self.strength * _bpr(chosen, texts, batch)


class LiteralBm3(nn.Module):
    """BM3 (Zhou et al., WWW 2023) on texts, without dropout, with the weights of a network of ours.

    Args:
        weights: as of ``LiteralFreedom``; also ``predictor`` [d, d] and ``predictor_bias`` [d].
        features: float32 [items, f].
        strength: λ, the weight of the norms.
        contrast: weight of the losses of the modalities.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], features: Tensor, strength: float, contrast: float
    ) -> None:
        super().__init__()
        self.tables = _parameters(weights)
        self.features, self.strength, self.contrast = features, strength, contrast

    def loss(self, adjacency: Tensor, batch: Tensor) -> Tensor:
        """Computes the loss of pairs of user and item, int64 [B, 2 or more]."""
        users, items = self.tables["users"], self.tables["items"]
        first = torch.cat([users, items])
        propagated = (first + torch.sparse.mm(adjacency, first)) / 2
        user_vectors, item_vectors = propagated.split([len(users), len(items)])
        item_vectors = item_vectors + items
        texts = functional.linear(self.features, self.tables["projection"], self.tables["bias"])
        user, item, text = user_vectors[batch[:, 0]], item_vectors[batch[:, 1]], texts[batch[:, 1]]
        norms = (user_vectors.norm() + item_vectors.norm()) / len(items)
        return (
            self._apart(user, item)
            + self._apart(item, user)
            + self.strength * norms
            + self.contrast * (self._apart(text, item) + self._apart(text, text))
        )

    def _apart(self, online: Tensor, target: Tensor) -> Tensor:
        predicted = functional.linear(online, self.tables["predictor"], self.tables["predictor_bias"])
        return 1 - functional.cosine_similarity(predicted, target.detach(), dim=-1).mean()


def _bpr(users: Tensor, vectors: Tensor, batch: Tensor) -> Tensor:
    difference = vectors[batch[:, 1]] - vectors[batch[:, 2]]
    return -functional.logsigmoid((users * difference).sum(dim=1)).mean()


def _both_ways(pairs: Tensor, users: int) -> tuple[Tensor, Tensor]:
    return torch.cat([pairs[:, 0], pairs[:, 1] + users]), torch.cat([pairs[:, 1] + users, pairs[:, 0]])


def _sparse(rows: Tensor, columns: Tensor, values: Tensor, size: int) -> Tensor:
    return torch.sparse_coo_tensor(torch.stack([rows, columns]), values, (size, size)).coalesce()


def _parameters(weights: Mapping[str, Tensor]) -> nn.ParameterDict:
    return nn.ParameterDict({name: nn.Parameter(value.detach().clone()) for name, value in weights.items()})
