"""Builds SASRec and MoRec from an item tower and a causal transformer.

The transformer reads the vectors that the tower makes, and its output is scored against the same vectors
(shared item embedding, Kang & McAuley, section III-C), so a bundle needs one matrix per backbone. With a
table of ids as its tower the model is SASRec; with texts or images it is MoRec (Yuan et al., SIGIR 2023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import embedding

from models.networks.base import LearningNetwork, SequenceNetwork, TrainingData
from models.networks.batches import batches, mixed_batches, negatives_outside, training_sequences
from models.networks.config import Config, LearningConfig, Modality
from models.networks.item_tower import ItemTower, TowerConfig
from models.networks.losses import binary_cross_entropy, full_softmax, sampled_softmax
from models.networks.sasrec import SASRec, SASRecConfig

MOST_NEGATIVES = 2**20
"""Largest number of negatives of a step; a larger one is a slip, and would only fill the memory."""


@dataclass(frozen=True)
class NextItemConfig(LearningConfig):
    """The ``[training]`` section of SASRec and MoRec.

    Attributes:
        positions: number of history positions per step, positions / n sequences of length n; 0 where
            ``sequences`` says how many.
        sequences: number of sequences per step, of any lengths; 0 where ``positions`` does.
        windows: what of a long history is trained on: ``all`` windows of L items, or the ``last`` one.
        loss: ``softmax``, or ``bce``, binary cross-entropy of the target and of one negative that the
            sequence lacks (SASRec and IDvs.MoRec).
        negatives: number of negatives that a step shares, at most ``MOST_NEGATIVES``; 0 for the softmax over
            all items. With ``bce`` each position has its own: 1.
        log_q: whether sampled negatives of the softmax are weighted to represent the whole catalogue.
        temperature: divisor of the scores in the loss, above 0.
        beta2: decay of AdamW's second moment, from 0 to below 1; torch's default is 0.999.
    """

    negatives: int
    log_q: bool
    temperature: float
    positions: int = field(default=0, kw_only=True)
    sequences: int = field(default=0, kw_only=True)
    windows: Literal["all", "last"] = field(default="all", kw_only=True)
    loss: Literal["softmax", "bce"] = field(default="softmax", kw_only=True)
    beta2: float = field(default=0.98, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.positions, self.sequences) != 0 or max(self.positions, self.sequences) < 1:
            raise ValueError("one of positions and sequences must be at least 1, and the other 0")
        if self.temperature <= 0:
            raise ValueError("temperature must be above 0")
        if not 0 <= self.negatives <= MOST_NEGATIVES:
            raise ValueError(f"negatives must be from 0 to {MOST_NEGATIVES:,}")
        if self.loss == "bce" and (self.negatives != 1 or self.log_q):
            raise ValueError("loss bce has one negative per position: negatives must be 1 and log_q false")
        if not 0 <= self.beta2 < 1:
            raise ValueError("beta2 must be from 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class TowerRecommenderConfig(Config):
    """All sections of SASRec and MoRec; the name of the family must fit what the tower reads."""

    network: SASRecConfig
    tower: TowerConfig
    training: NextItemConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.family == "sasrec") != (self.tower.modalities == ("id",)):
            raise ValueError(
                "family sasrec reads ids alone and morec texts or images: "
                f"tower.modalities does not fit {self.family}"
            )
        if "layers" in (self.features.text_pooling, self.features.image_output):
            raise ValueError("sasrec and morec read one vector of a text or picture, not its layers")

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Names what the tower reads."""
        return self.tower.modalities


class TowerRecommender(SequenceNetwork, LearningNetwork):
    """Predicts the next item: SASRec when the tower is an id table, MoRec when it reads texts or images."""

    config_type = TowerRecommenderConfig
    learning: NextItemConfig

    def __init__(self, config: TowerRecommenderConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.learning = config.training
        # Attribute names are keys of the saved weights: renaming these two makes older runs unreadable.
        self.tower = ItemTower(config.tower, config.network.dimension, data.items, data.features)
        self.network = SASRec(config.network)
        self._sequences = training_sequences(data.histories, config.network.length, config.training.windows)

    def item_vectors(self) -> Tensor:
        """Runs the tower on the whole catalogue, [items, d]."""
        return self.tower.all()

    def user_encoder(self) -> SASRec:
        """Returns the transformer."""
        return self.network

    @classmethod
    def restore_encoder(cls, config: Config, weights: Mapping[str, Tensor]) -> SASRec:
        """Rebuilds the transformer with trained weights; the tower is left out."""
        assert isinstance(config, TowerRecommenderConfig)
        return SASRec.restored(config.network, weights)

    def optimiser(self) -> torch.optim.Optimizer:
        """Makes AdamW with the configured second beta.

        It is fused, which passes once over the table of ids, where most of the weights are. Its bits do not
        depend on the number of threads. A checkpoint that was saved without fusing goes on without it.
        """
        return torch.optim.AdamW(
            self.parameters(),
            lr=self.learning.learning_rate,
            betas=(0.9, self.learning.beta2),
            weight_decay=self.learning.weight_decay,
            fused=True,
        )

    def batches(self, generator: torch.Generator) -> Sequence[Tensor]:
        """Takes every training sequence once: item rows [B, n + 1].

        A batch has sequences of one length, or, where the configuration gives their number, of any lengths
        with -1s behind them.
        """
        learning = self.learning
        if learning.sequences:
            return list(mixed_batches(self._sequences, learning.sequences, generator))
        return list(batches(self._sequences, learning.positions, generator))

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Computes the loss of each next item against negatives drawn for this batch."""
        if self.learning.loss == "bce":
            return self.binary_loss(batch, negatives_outside(batch, self.tower.items, generator))
        negatives = torch.randint(self.tower.items, (self.learning.negatives,), generator=generator)
        return self.next_item_loss(batch, negatives.to(batch.device))

    def binary_loss(self, rows: Tensor, negatives: Tensor) -> Tensor:
        """Computes the binary cross-entropy of each next item and its own negative.

        Args:
            rows: item rows int64 [B, n + 1]; position t predicts t + 1, unless that is -1.
            negatives: item rows int64 [B, n].
        """
        real = rows[:, 1:] >= 0  # [B, n]
        used, index = torch.unique(torch.cat([rows.clamp(min=0), negatives], dim=1), return_inverse=True)
        vectors = self.tower(used)  # [R, d]
        taken, drawn = index.split([rows.shape[1], negatives.shape[1]], dim=1)  # [B, n + 1], [B, n]
        return binary_cross_entropy(
            self._states(taken[:, :-1], real, vectors) / self.learning.temperature,
            embedding(taken[:, 1:][real], vectors),
            embedding(drawn[real], vectors),
        )

    def next_item_loss(self, rows: Tensor, negatives: Tensor) -> Tensor:
        """Computes the loss of each next item against given negatives.

        Args:
            rows: item rows int64 [B, n + 1]; position t predicts t + 1, unless that is -1.
            negatives: item rows int64 [K]; with K = 0 the softmax is over the whole catalogue.
        """
        # embedding(rows, vectors) is vectors[rows] with a gradient that adds up in a fixed order, with any
        # number of threads.
        real = rows[:, 1:] >= 0  # [B, n]
        targets = rows[:, 1:][real]  # [P]
        if not len(negatives):
            vectors = self.tower.all()  # [items, d]
            states = self._states(rows[:, :-1], real, vectors)
            return full_softmax(states / self.learning.temperature, vectors, targets)
        # The tower runs on the R different items of this step alone, each once.
        filled = rows.clamp(min=0)
        used, index = torch.unique(torch.cat([filled.flatten(), negatives]), return_inverse=True)
        vectors = self.tower(used)  # [R, d]
        taken, drawn = index[: rows.numel()].view_as(rows), index[rows.numel() :]  # [B, n + 1], [K]
        return sampled_softmax(
            self._states(taken[:, :-1], real, vectors) / self.learning.temperature,
            embedding(taken[:, 1:][real], vectors),
            embedding(drawn, vectors),
            same=targets[:, None] == negatives,  # [P, K]
            items=self.tower.items,
            log_q=self.learning.log_q,
        )

    def _states(self, read: Tensor, real: Tensor, vectors: Tensor) -> Tensor:
        """Computes the user vectors of all P positions that have a next item.

        Args:
            read: rows of ``vectors`` int64 [B, n], the history before each position.
            real: bool [B, n], True at those positions.
            vectors: item vectors [R, d].

        Returns:
            float [P, d].
        """
        if not self.learning.sequences:  # one length: every position is real
            states: Tensor = self.network(embedding(read, vectors)).flatten(0, 1)
            return states
        return self.network.packed(embedding(read[real], vectors), real.sum(dim=1))
