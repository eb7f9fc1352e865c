"""What training, export and serving need of a model family.

A family is one class: it is built from its configuration and the training data, and says what an item's
vector is. Two properties are independent of each other:

- how it serves: a ``SequenceNetwork`` encodes a history into a user vector, a ``GraphNetwork`` has a vector
  per user of the training data;
- how it is trained: a ``LearningNetwork`` has batches and a loss; any other has counted all that it knows by
  the time it is built.

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
        histories: item rows by position of the user, oldest first, without validation and test items.
        features: text or image -> float32 [items, f], and bool [items], True where the item has it.
    """

    items: int
    histories: Sequence[Rows]
    features: Mapping[str, tuple[Tensor, Tensor]]


class Network(nn.Module, ABC):
    """A recommender of any family.

    Attributes:
        config_type: the family's configuration with all its sections.
    """

    config_type: ClassVar[type[Config]]

    @abstractmethod
    def __init__(self, config: Config, data: TrainingData) -> None:
        """Build the network with random weights, or with all that it counts.

        Raises:
            ValueError: the features of a modality are missing or have another number of rows.
        """
        super().__init__()

    @abstractmethod
    def item_vectors(self) -> Tensor:
        """The vectors of the whole catalogue, [items, d]."""


class SequenceEncoder(nn.Module, ABC):
    """Item vectors of a history -> user vectors; this module alone becomes ``encoder.onnx``.

    Attributes:
        length: L, the number of last items that are read.
        dimension: d, of item and user vectors.
    """

    length: int
    dimension: int

    @abstractmethod
    def forward(self, vectors: Tensor) -> Tensor:
        """The user vector after each item: [B, n, d], oldest first, 1 <= n <= L, no padding -> [B, n, d]."""

    def last(self, vectors: Tensor) -> Tensor:
        """The user vector after the whole history: [B, n, d] -> [B, d]; equals ``forward(vectors)[:, -1]``.

        Evaluation and serving call this one; override it where the last position alone is less work.
        """
        states: Tensor = self(vectors)  # [B, n, d]
        return states[:, -1]


class SequenceNetwork(Network):
    """A family that reads a history; it knows users whom it has never seen."""

    @abstractmethod
    def user_encoder(self) -> SequenceEncoder:
        """The part that turns the item vectors of a history into a user vector."""

    @classmethod
    @abstractmethod
    def restore_encoder(cls, config: Config, weights: Mapping[str, Tensor]) -> SequenceEncoder:
        """The user encoder of a trained network, rebuilt without features and training data.

        Args:
            config: of the run.
            weights: the whole network's state dict.
        """


class GraphNetwork(Network):
    """A family with one vector per user of the training data; others are strangers to it."""

    @abstractmethod
    def user_vectors(self) -> Tensor:
        """The vectors of all users, [users, d], in the order of ``TrainingData.histories``."""


class LearningNetwork(Network):
    """A family whose weights are found by gradient descent.

    Attributes:
        learning: seed, epochs, patience and rates, from the family's ``[training]`` section.
    """

    learning: LearningConfig

    @abstractmethod
    def batches(self, generator: torch.Generator) -> Sequence[Tensor]:
        """One epoch of batches, int64; what the columns mean is between this method and ``loss``.

        Also the place for what a family does once per epoch, such as pruning its graph.

        Args:
            generator: on the CPU, seeded per epoch; every random choice must come from it.
        """

    @abstractmethod
    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """The mean loss of a batch, a scalar with a gradient.

        Args:
            batch: from ``batches``, on the network's device.
            generator: that of ``batches``, for negatives.
        """

    def optimiser(self) -> torch.optim.Optimizer:
        """AdamW with betas 0.9 and 0.98; override it where a paper says otherwise."""
        return torch.optim.AdamW(
            self.parameters(),
            lr=self.learning.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=self.learning.weight_decay,
        )
