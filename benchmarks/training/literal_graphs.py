"""Trains FREEDOM, BM3 and MMGCN as they are usually written: coalesced sparse matrices, negatives one by one.

Every item is projected in every step, and negatives are drawn pair by pair in Python, as in MMRec. The
weights are those of a network of ``models.networks``, whose equations these functions compute in the plain
way; with equal batches the loss is the same.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.bm3 import BM3
from models.networks.freedom import Freedom
from models.networks.graph.recommender import Contents
from models.networks.mmgcn import MMGCN, Branch, Layer


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
    """Builds D^-1/2 A D^-1/2, sparse float32 [users + items, users + items]."""
    rows, columns = _both_ways(pairs, users)
    degrees = torch.bincount(rows, minlength=users + items).float()
    return _sparse(rows, columns, degrees[rows] ** -0.5 * degrees[columns] ** -0.5, users + items)


def mean_adjacency(pairs: Tensor, users: int, items: int) -> Tensor:
    """Builds D^-1 A, the mean over neighbours, sparse float32 [users + items, users + items]."""
    rows, columns = _both_ways(pairs, users)
    degrees = torch.bincount(rows, minlength=users + items).float()
    return _sparse(rows, columns, 1 / degrees[rows], users + items)


def pruned(pairs: Tensor, share: float, users: int, items: int) -> Tensor:
    """Draws the edges that FREEDOM keeps in an epoch, int64 [kept, 2]."""
    of_user, of_item = (torch.bincount(pairs[:, at], minlength=n) for at, n in enumerate((users, items)))
    weights = (of_user[pairs[:, 0]] * of_item[pairs[:, 1]]).float() ** -0.5
    return pairs[torch.multinomial(weights, int(len(pairs) * (1 - share)))]


def item_neighbours(features: Tensor, k: int) -> Tensor:
    """Builds the item graph of one modality from all cosines at once, sparse float32 [items, items]."""
    unit = functional.normalize(features, dim=1)
    nearest = (unit @ unit.T).topk(k, dim=1).indices  # [items, k]
    rows = torch.arange(len(features)).repeat_interleave(k)
    return _sparse(rows, nearest.flatten(), torch.full((len(rows),), 1 / k), len(features))


def freedom_loss(network: Freedom, adjacency: Tensor, neighbours: Tensor, batch: Tensor) -> Tensor:
    """Computes FREEDOM's loss of user, item and negative, int64 [B, 3], on this epoch's graph."""
    users, items = network.user_table, network.item_table
    layers = [torch.cat([users, items])]
    for _ in range(network.network.layers):
        layers.append(torch.sparse.mm(adjacency, layers[-1]))
    user_vectors, item_vectors = _halves(torch.stack(layers).mean(dim=0), len(users))
    item_vectors = item_vectors + torch.sparse.mm(neighbours, items)
    chosen = user_vectors[batch[:, 0]]
    loss = _bpr(chosen, item_vectors, batch)
    for projected in _projected(network.projections):
        loss = loss + network.learning.content_weight * _bpr(chosen, projected, batch)
    return loss


def bm3_loss(network: BM3, adjacency: Tensor, batch: Tensor) -> Tensor:
    """Computes BM3's loss of pairs of user and item, int64 [B, 2 or more]."""
    users, items = network.user_table, network.item_table
    layers = [torch.cat([users, items])]
    for _ in range(network.network.layers):
        layers.append(torch.sparse.mm(adjacency, layers[-1]))
    user_vectors, item_vectors = _halves(torch.stack(layers).mean(dim=0), len(users))
    item_vectors = item_vectors + items
    # Every vector has a masked view, not those of the batch alone.
    views = [
        functional.dropout(each.detach(), network.network.dropout) for each in (user_vectors, item_vectors)
    ]
    user, item = user_vectors[batch[:, 0]], item_vectors[batch[:, 1]]
    user_view, item_view = views[0][batch[:, 0]], views[1][batch[:, 1]]
    loss = _apart(network, user, item_view) + _apart(network, item, user_view)
    for projected in _projected(network.projections):
        view = functional.dropout(projected.detach(), network.network.dropout)[batch[:, 1]]
        own = projected[batch[:, 1]]
        aligned = _apart(network, own, item_view) + _apart(network, own, view)
        loss = loss + network.learning.content_weight * aligned
    norms: Tensor = (user_vectors.norm() + item_vectors.norm()) / len(items)
    return loss + network.learning.regularisation * norms


def mmgcn_loss(network: MMGCN, adjacency: Tensor, batch: Tensor) -> Tensor:
    """Computes MMGCN's loss of user, item and negative, int64 [B, 3]."""
    ids, users = network.ids, network.users
    branches = [_branch(branch, ids, adjacency) for branch in network.branches.values()]
    user_vectors, item_vectors = _halves(torch.stack(branches).mean(dim=0), users)
    loss = _bpr(user_vectors[batch[:, 0]], item_vectors, batch)
    of_users, of_items = _halves(ids, users)
    twice = torch.cat([of_users[batch[:, 0]], of_users[batch[:, 0]]])
    taken = torch.cat([of_items[batch[:, 1]], of_items[batch[:, 2]]])
    squares = (twice**2 + taken**2).mean()
    if "image" in network.branches:
        squares = squares + (network.branches["image"].preferences ** 2).mean()
    return loss + network.learning.regularisation * squares


def _branch(branch: Branch, ids: Tensor, adjacency: Tensor) -> Tensor:
    features = branch.contents.values if branch.project is None else branch.project(branch.contents.values)
    x = functional.normalize(torch.cat([branch.preferences, features]), dim=1)
    for layer in branch.layers:
        assert isinstance(layer, Layer)
        h = functional.leaky_relu(torch.sparse.mm(adjacency, layer.neighbours(x)))
        own = functional.leaky_relu(layer.own(x)) + ids
        x = functional.leaky_relu(layer.joined(torch.cat([h, own], dim=1)))
    return x


def _projected(projections: nn.ModuleList) -> Sequence[Tensor]:
    """Projects the contents of all items: [items, d] for each modality."""
    found = []
    for each in projections:
        contents, linear = cast(nn.Sequential, each)
        assert isinstance(contents, Contents)
        found.append(linear(contents.values))
    return found


def _apart(network: BM3, online: Tensor, target: Tensor) -> Tensor:
    return 1 - functional.cosine_similarity(network.predictor(online), target, dim=-1).mean()


def _bpr(users: Tensor, vectors: Tensor, batch: Tensor) -> Tensor:
    difference = vectors[batch[:, 1]] - vectors[batch[:, 2]]
    return -functional.logsigmoid((users * difference).sum(dim=1)).mean()


def _halves(vectors: Tensor, users: int) -> tuple[Tensor, Tensor]:
    return vectors[:users], vectors[users:]


def _both_ways(pairs: Tensor, users: int) -> tuple[Tensor, Tensor]:
    return torch.cat([pairs[:, 0], pairs[:, 1] + users]), torch.cat([pairs[:, 1] + users, pairs[:, 0]])


def _sparse(rows: Tensor, columns: Tensor, values: Tensor, size: int) -> Tensor:
    # Said explicitly, since torch warns where it has to assume it.
    matrix = torch.sparse_coo_tensor(
        torch.stack([rows, columns]), values, (size, size), check_invariants=False
    )
    return matrix.coalesce()
