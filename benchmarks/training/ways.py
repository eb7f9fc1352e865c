"""Trains a network in our way and in the usual one: the same weights, loss, batches and number of steps."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor

from benchmarks.training.literal_graphs import (
    bm3_loss,
    drawn_negatives,
    freedom_loss,
    item_neighbours,
    mean_adjacency,
    mmgcn_loss,
    pruned,
    symmetric_adjacency,
)
from benchmarks.training.padded_sequences import padded, padded_batches, padded_loss
from models.networks.base import LearningNetwork, TrainingData
from models.networks.batches import training_sequences
from models.networks.bm3 import BM3
from models.networks.freedom import Freedom
from models.networks.mmgcn import MMGCN
from models.networks.tower_recommender import TowerRecommender

Batches = Sequence[Tensor]


@dataclass(frozen=True)
class Way:
    """One way to train a network.

    Attributes:
        network: network with weights of its own.
        optimiser: its optimiser.
        generator: random numbers of batches and negatives.
        batches: function that makes the batches of an epoch, with all that is done once per epoch.
        loss: function of a batch.
    """

    network: LearningNetwork
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    batches: Callable[[], Batches]
    loss: Callable[[Tensor], Tensor]

    def step(self, batch: Tensor) -> float:
        """Takes one step; returns the loss."""
        loss = self.loss(batch)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return float(loss.detach())

    def epoch_seconds(self, steps: int) -> float:
        """Times an epoch: making its batches, and its steps by the mean of the first ``steps``."""
        self.network.train()
        begun = time.perf_counter()
        batches = self.batches()
        made = time.perf_counter()
        timed = batches[:steps]
        for batch in timed:
            self.step(batch)
        return made - begun + (time.perf_counter() - made) * len(batches) / len(timed)


def ours(network: LearningNetwork, seed: int = 0) -> Way:
    """Trains a copy of a network as ``models.training`` does."""
    own, generator = copy.deepcopy(network), torch.Generator().manual_seed(seed)
    return Way(
        own,
        own.optimiser(),
        generator,
        lambda: own.batches(generator),
        lambda batch: own.loss(batch, generator),
    )


def usual(network: LearningNetwork, data: TrainingData, seed: int = 0) -> Way:
    """Trains a copy of a network in the usual way.

    Args:
        network: SASRec on ids, or FREEDOM, BM3 or MMGCN on texts.
        data: what it was built from.
        seed: seed of batches and negatives.

    Raises:
        TypeError: there is no usual way of this family here.
    """
    own, generator = copy.deepcopy(network), torch.Generator().manual_seed(seed)
    if isinstance(own, TowerRecommender):
        return _padded(own, data, generator)
    if isinstance(own, Freedom):
        return _freedom(own, data, generator)
    if isinstance(own, BM3):
        pairs, whole = own.graph.pairs, symmetric_adjacency(own.graph.pairs, own.graph.users, own.graph.items)
        return _way(
            own,
            generator,
            lambda: _shuffled(pairs, own.learning.batch, generator),
            lambda batch: bm3_loss(own, whole, batch),
        )
    if isinstance(own, MMGCN):
        mean = mean_adjacency(own.graph.pairs, own.graph.users, own.graph.items)
        return _way(
            own, generator, lambda: _triples(own, generator), lambda batch: mmgcn_loss(own, mean, batch)
        )
    raise TypeError(f"no usual way to train a {type(own).__name__}")


def losses(network: LearningNetwork, data: TrainingData, steps: int = 3) -> tuple[list[float], list[float]]:
    """Takes the same steps in both ways from the same weights; dropout and pruning must be off.

    Returns:
        The losses of ours and of the usual way: before the first step, between steps, and after the last.
    """
    mine, theirs = ours(network), usual(network, data)
    found: tuple[list[float], list[float]] = ([], [])
    # One loss more than steps: a loss is computed before its step changes the weights.
    for batch in islice(cycle(mine.batches()), steps + 1):
        theirs.generator.set_state(mine.generator.get_state())  # the same negatives, where a step draws them
        same = padded(list(batch), network.network.length) if isinstance(network, TowerRecommender) else batch
        found[0].append(mine.step(batch))
        found[1].append(theirs.step(same))
    return found


def _padded(own: TowerRecommender, data: TrainingData, generator: torch.Generator) -> Way:
    length = own.network.length
    sequences = [row for rows in training_sequences(data.histories, length).values() for row in rows]
    steps = len(own.batches(torch.Generator().manual_seed(0)))

    def loss(batch: Tensor) -> Tensor:
        negatives = torch.randint(own.tower.items, (own.learning.negatives,), generator=generator)
        return padded_loss(own, batch, negatives)

    return _way(own, generator, lambda: padded_batches(sequences, length, steps, generator), loss)


def _freedom(own: Freedom, data: TrainingData, generator: torch.Generator) -> Way:
    graph = own.graph
    neighbours = item_neighbours(data.features["text"][0], own.network.neighbours)
    epoch = {"adjacency": symmetric_adjacency(graph.pairs, graph.users, graph.items)}

    def batches() -> Batches:
        if own.learning.pruning:
            kept = pruned(graph.pairs, own.learning.pruning, graph.users, graph.items)
            epoch["adjacency"] = symmetric_adjacency(kept, graph.users, graph.items)
        return _triples(own, generator)

    return _way(
        own, generator, batches, lambda batch: freedom_loss(own, epoch["adjacency"], neighbours, batch)
    )


def _way(
    own: LearningNetwork,
    generator: torch.Generator,
    batches: Callable[[], Batches],
    loss: Callable[[Tensor], Tensor],
) -> Way:
    """Makes the usual way, with the network's optimiser as torch makes it by default."""
    settings = own.optimiser()
    plain: dict[str, Any] = {name: settings.defaults[name] for name in ("lr", "betas", "weight_decay")}
    return Way(own, type(settings)(own.parameters(), **plain), generator, batches, loss)


def _triples(own: Freedom | MMGCN, generator: torch.Generator) -> Batches:
    negatives = drawn_negatives(own.graph.pairs, generator.initial_seed())
    return _shuffled(torch.cat([own.graph.pairs, negatives[:, None]], dim=1), own.learning.batch, generator)


def _shuffled(rows: Tensor, batch: int, generator: torch.Generator) -> Batches:
    return torch.split(rows[torch.randperm(len(rows), generator=generator)], batch)
