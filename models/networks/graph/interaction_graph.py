"""Holds the graph of users and items, and multiplies by the sparse matrices that graph models make of it.

Users come first, then items: node ``users + i`` is the item in row i. The graph is undirected and binary; an
interaction that repeats is one edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data.dataset import Rows

BLOCK = 1024
"""Items whose similarities to the whole catalogue are held in memory at once."""

_STEPS = 2.0**30
"""Steps that a similarity of one is rounded to: more than sums of different order differ by, in 64 bits."""


class SparseProduct(nn.Module):
    """Multiplies by a constant sparse matrix; the gradient is the product with its transpose.

    A product is one ``embedding_bag``, which sums weighted rows and takes less than half the time of torch's
    sparse matrices on a CPU. Each row of the result is one sum in a fixed order, with any number of threads.
    What it holds is made of the training data, and so is not part of a state dict.

    Args:
        rows: row of each entry, int64 [n]; entries in the same place add up.
        columns: column of each entry, int64 [n].
        values: value of each entry, float [n].
        shape: numbers of rows and columns.
        symmetric: whether the matrix is its own transpose, which then takes no memory.
    """

    columns: Tensor
    values: Tensor
    offsets: Tensor
    transposed_columns: Tensor
    transposed_values: Tensor
    transposed_offsets: Tensor

    def __init__(
        self, rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int], symmetric: bool = False
    ) -> None:
        super().__init__()
        self.symmetric, self.shape = symmetric, shape
        self._keep("", _compressed(rows, columns, values, shape[0]))
        if not symmetric:
            self._keep("transposed_", _compressed(columns, rows, values, shape[1]))

    def forward(self, x: Tensor) -> Tensor:
        """Multiplies: [columns, d] -> [rows, d]."""
        assert x.ndim == 2, x.shape
        assert len(x) == self.shape[1], (x.shape, self.shape)
        forth = (self.columns, self.offsets, self.values)
        back = forth
        if not self.symmetric:
            back = (self.transposed_columns, self.transposed_offsets, self.transposed_values)
        product: Tensor = _Product.apply(x, forth, back)  # type: ignore[no-untyped-call]
        return product

    def _keep(self, prefix: str, arrays: tuple[Tensor, Tensor, Tensor]) -> None:
        for name, array in zip(("columns", "offsets", "values"), arrays, strict=True):
            self.register_buffer(prefix + name, array, persistent=False)


class InteractionGraph:
    """The edges between the users and items of the training part.

    Attributes:
        users: number of users.
        items: number of items.
        nodes: number of both.
        pairs: user and item of each edge, int64 [E, 2], in order, each once.
        user_degrees: number of different items of each user, float64 [users].
        item_degrees: number of different users of each item, float64 [items].
    """

    def __init__(self, histories: Sequence[Rows], items: int) -> None:
        self.users, self.items, self.nodes = len(histories), items, len(histories) + items
        lengths = [len(history) for history in histories]
        owners = np.repeat(np.arange(self.users, dtype=np.int64), lengths)
        rows = np.concatenate([np.empty(0, dtype=np.int64), *histories]).astype(np.int64)
        keys = np.unique(owners * items + rows)
        self.pairs = torch.from_numpy(np.stack(np.divmod(keys, items), axis=1))  # [E, 2]
        self.user_degrees = torch.bincount(self.pairs[:, 0], minlength=self.users).double()
        self.item_degrees = torch.bincount(self.pairs[:, 1], minlength=items).double()
        # Negatives: the items that occur, and for each edge what is drawn below it (see there).
        self._occurring = torch.nonzero(self.item_degrees)[:, 0]  # [n]
        place = torch.searchsorted(
            self._occurring, self.pairs[:, 1].contiguous()
        )  # [E], among those that occur
        self._first = (torch.cumsum(self.user_degrees, dim=0) - self.user_degrees).long()  # [users], edge
        earlier = torch.arange(len(self.pairs)) - self._first[self.pairs[:, 0]]  # [E], of the same user
        self._lacking_before = self.pairs[:, 0] * (len(self._occurring) + 1) + place - earlier  # [E], sorted

    def symmetric(self, kept: Tensor | None = None) -> SparseProduct:
        """Makes D^-1/2 A D^-1/2, [nodes, nodes], the propagation of LightGCN.

        Only edges have a value, so a node without any has a row of zeros, and nothing is divided by zero.

        Args:
            kept: numbers of the edges of a smaller graph, whose own degrees count; None for all.
        """
        pairs = self.pairs if kept is None else self.pairs[kept]
        users = torch.bincount(pairs[:, 0], minlength=self.users).double()
        items = torch.bincount(pairs[:, 1], minlength=self.items).double()
        values = (users[pairs[:, 0]] * items[pairs[:, 1]]) ** -0.5  # [E]
        return self._both_ways(pairs, values, values, symmetric=True)

    def mean(self) -> SparseProduct:
        """Makes D^-1 A, [nodes, nodes], the mean over neighbours; a row of zeros for a node without any."""
        users, items = self.pairs.T
        return self._both_ways(
            self.pairs, 1 / self.user_degrees[users], 1 / self.item_degrees[items], symmetric=False
        )

    def mean_of_items(self) -> SparseProduct:
        """Makes the rows of users in D^-1 A, [users, items]: the mean over each user's items."""
        users, items = self.pairs.T
        return SparseProduct(users, items, 1 / self.user_degrees[users], (self.users, self.items))

    def mean_of_users(self) -> SparseProduct:
        """Makes the rows of items in D^-1 A, [items, users]: the mean over each item's users."""
        users, items = self.pairs.T
        return SparseProduct(items, users, 1 / self.item_degrees[items], (self.items, self.users))

    def negatives(self, users: Tensor, generator: torch.Generator) -> Tensor:
        """Draws an item for each user, uniformly from those that occur in training and that the user lacks.

        This is what drawing again until the item is no own one gives, without the repeats. A user who has
        every item gets any of them.

        Args:
            users: positions of users, int64 [n], repeats allowed.
            generator: random numbers on the CPU.

        Returns:
            Item rows int64 [n].
        """
        occurring = len(self._occurring)
        lacking = occurring - self.user_degrees[users]  # [n]
        drawn = torch.rand(len(users), generator=generator, dtype=torch.float64)
        number = (drawn * torch.where(lacking > 0, lacking, occurring)).long()  # [n], of the item among those
        # An own item stands before the lacking one of number r where at most r lacking ones precede it.
        sought = users * (occurring + 1) + number
        before = torch.searchsorted(self._lacking_before, sought, right=True) - self._first[users]  # [n]
        return self._occurring[number + torch.where(lacking > 0, before, 0)]

    def _both_ways(self, pairs: Tensor, of_user: Tensor, of_item: Tensor, symmetric: bool) -> SparseProduct:
        users, items = pairs[:, 0], self.users + pairs[:, 1]
        return SparseProduct(
            torch.cat([users, items]),
            torch.cat([items, users]),
            torch.cat([of_user, of_item]),
            (self.nodes, self.nodes),
            symmetric,
        )


def nearest_items(features: Tensor, present: Tensor, k: int) -> Tensor:
    """Finds the k items of the most similar features for each item, the item itself first.

    Similarity is the cosine. Among equals the lower row wins, so the same features give the same items, with
    any number of threads.

    Args:
        features: float [items, f].
        present: bool [items], True where the item has the feature; a row of zeros counts as absent too, since
            it has no direction.
        k: number of items, at least 1; fewer where not so many have the feature.

    Returns:
        Row and neighbour of each entry, int64 [2, m * k] for m items with the feature.
    """
    rows = torch.nonzero(present & (features != 0).any(dim=1))[:, 0]  # [m]
    directions = functional.normalize(features[rows].double(), dim=1)  # [m, f]
    k = min(k, len(rows))
    order = torch.arange(len(rows), dtype=torch.float64) / max(1, len(rows))  # [m], below one
    found = []
    for at in range(0, len(rows), BLOCK):
        similar = directions[at : at + BLOCK] @ directions.T  # [b, m]
        # Whole numbers, so that equal features are equal here and their order decides.
        keys = similar.mul_(_STEPS).round_().sub_(order)
        keys.diagonal(offset=at).fill_(torch.inf)
        found.append(keys.topk(k, dim=1).indices)  # [b, k]
    neighbours = torch.cat(found) if found else rows.new_empty(0, k)
    return torch.stack([rows.repeat_interleave(k), rows[neighbours.flatten()]])


class _Product(torch.autograd.Function):
    """The product with one matrix, whose gradient is the product with another, its transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forth: tuple[Tensor, ...], back: tuple[Tensor, ...]) -> Tensor:
        ctx.back = back
        return _product(x.detach(), *forth)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _product(gradients[0], *ctx.back), None, None


def _product(x: Tensor, columns: Tensor, offsets: Tensor, values: Tensor) -> Tensor:
    return functional.embedding_bag(
        columns, x.contiguous(), offsets, mode="sum", per_sample_weights=values.to(x.dtype)
    )  # [rows, d]


def _compressed(rows: Tensor, columns: Tensor, values: Tensor, height: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sorts entries by row and column: columns int32 [n], offset of each row int32 [height], values [n]."""
    order = torch.argsort(rows * (int(columns.max()) + 1 if len(columns) else 1) + columns, stable=True)
    counts = torch.bincount(rows, minlength=height)
    offsets = torch.cumsum(counts, dim=0) - counts
    return columns[order].int(), offsets.int(), values[order].float()
