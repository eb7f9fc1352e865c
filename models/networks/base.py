"""Defines the interfaces between a model family and training, export and serving.

A family is one class, built from its configuration and the training data. Two choices are independent:

- Serving: a ``SequenceNetwork`` encodes a history into a user vector; a ``GraphNetwork`` has one vector per
  user of the training data.
- Training: a ``LearningNetwork`` has batches and a loss; any other family only counts, and is complete
  when it is built.

A score is always the inner product of a user vector and an item vector.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.data.dataset import Rows
from models.networks.config import Config, LearningConfig


@dataclass(frozen=True)
class TrainingData:
    """What a network is built from.

    Attributes:
        items: size of the catalogue.
        histories: item rows per user, oldest first, without validation and test items.
        features: values and bool [items], True where the item has the feature, for each of ``text`` and
            ``image`` that the family reads. Values are float32 [items, f], or hidden states [items, K, w], in
            float16 where they are not standardised.
    """

    items: int
    histories: Sequence[Rows]
    features: Mapping[str, tuple[Tensor, Tensor]]


class Network(nn.Module, ABC):
    """Holds what every family has: a configuration, and a vector per item.

    Attributes:
        config_type: subclass of ``Config`` with the family's own sections.
    """

    config_type: ClassVar[type[Config]]  # what training.config builds from a TOML file of this family

    @abstractmethod
    def __init__(self, config: Config, data: TrainingData) -> None:
        """Builds the network with random weights, or with all that it counts.

        Raises:
            ValueError: the features of a modality are missing or have another number of rows.
        """
        super().__init__()
        for modality in config.modalities:
            if modality == "id":
                continue
            if modality not in data.features or len(data.features[modality][0]) != data.items:
                raise ValueError(f"{config.family} needs {modality} features of all {data.items} items")

    @abstractmethod
    def item_vectors(self) -> Tensor:
        """Computes the vectors of the whole catalogue, [items, d]."""


class SequenceEncoder(nn.Module, ABC):
    """Turns the item vectors of a history into user vectors; this module alone becomes ``encoder.onnx``.

    Attributes:
        length: L, the number of last items that are read.
        dimension: d, of item and user vectors.
    """

    length: int
    dimension: int

    @abstractmethod
    def forward(self, vectors: Tensor) -> Tensor:
        """Computes the user vector after each item.

        Args:
            vectors: item vectors [B, n, d], oldest first, 1 <= n <= L, no padding.

        Returns:
            User vectors [B, n, d]; position t has read items 1..t.
        """

    def last(self, vectors: Tensor) -> Tensor:
        """Computes the user vector after the whole history: [B, n, d] -> [B, d].

        Evaluation and serving call this method. It equals ``forward(vectors)[:, -1]``; a family overrides it
        where the last position alone is less work, and export checks that both agree.
        """
        states: Tensor = self(vectors)  # [B, n, d]
        return states[:, -1]


class SequenceNetwork(Network):
    """Recommends to a history, and so to users who are not in the training data."""

    @abstractmethod
    def user_encoder(self) -> SequenceEncoder:
        """Returns the part that turns the item vectors of a history into a user vector."""

    @classmethod
    @abstractmethod
    def restore_encoder(cls, config: Config, weights: Mapping[str, Tensor]) -> SequenceEncoder:
        """Rebuilds the user encoder of a trained network, without features and training data.

        Args:
            config: configuration of the run.
            weights: state dict of the whole network.
        """


class GraphNetwork(Network):
    """Recommends to the users of the training data, each of whom has a vector."""

    @abstractmethod
    def user_vectors(self) -> Tensor:
        """Computes the vectors of all users, [users, d], in the order of ``TrainingData.histories``."""


class LearningNetwork(Network):
    """Finds its weights by gradient descent.

    Attributes:
        learning: ``[training]`` section of the configuration: seed, epochs, patience and rates.
    """

    learning: LearningConfig

    @abstractmethod
    def batches(self, generator: torch.Generator) -> Sequence[Tensor]:
        """Makes the batches of one epoch, int64 [B, …]; only ``loss`` reads their columns.

        The loop calls this method once per epoch, so work such as pruning a graph belongs here.

        Args:
            generator: random numbers on the CPU, seeded per epoch. Every random choice must come from it, or
                an interrupted run ends with other weights.
        """

    @abstractmethod
    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Computes the mean loss of a batch, a scalar with a gradient.

        Args:
            batch: one of ``batches``, on the network's device.
            generator: generator that ``batches`` was given, to draw negatives from.
        """

    def optimiser(self) -> torch.optim.Optimizer:
        """Makes the optimiser: AdamW with betas 0.9 and 0.98, unless the family's paper names another."""
        return torch.optim.AdamW(
            self.parameters(),
            lr=self.learning.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=self.learning.weight_decay,
        )
