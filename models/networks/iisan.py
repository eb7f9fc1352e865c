"""Builds IISAN (Fu et al., SIGIR 2024) from side adapters on cached hidden states and a causal transformer.

The item side is ``side_adapters``; the transformer reads the item vectors and is scored against them, as in
SASRec. The loss compares the next item with the items of the other users of the batch, so a batch mixes users
with histories of all lengths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import embedding

from models.errors import DataError
from models.networks.base import LearningNetwork, SequenceNetwork, TrainingData
from models.networks.batches import Sequences, mixed_batches, training_sequences
from models.networks.config import LARGEST_STEP, Config, LearningConfig, Modality
from models.networks.sasrec import SASRec, SASRecConfig
from models.networks.side_adapters import SideAdapters, SideAdaptersConfig

FEWEST = 3
"""Items that a user's training part must have: the authors leave users with fewer than five items out, and
two of those are the validation and the test item."""

BLOCK = 1024
"""Items whose vectors are made at once for the whole catalogue: their states take 45 MB at K 7 and w 768."""


@dataclass(frozen=True)
class InBatchConfig(LearningConfig):
    """The ``[training]`` section of IISAN.

    ``learning_rate`` is that of the transformer, of the projections to d, of the gates of text and of both,
    and of the inter-modal network's linear layer.

    Attributes:
        sequences: number of sequences per step, of all lengths, at least 1.
        windows: what of a long history is trained on: the ``last`` L + 1 items (the paper), or ``all``
            windows of as many back to the first.
        adapter_rate: learning rate of the adapters.
        text_rate: learning rate of the linear layer after the last text block.
        image_rate: learning rate of the image's gates, and of the linear layer after its last block.
    """

    sequences: int
    adapter_rate: float
    text_rate: float
    image_rate: float
    windows: Literal["all", "last"] = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sequences < 1:
            raise ValueError("sequences must be at least 1")
        rates = (self.adapter_rate, self.text_rate, self.image_rate)
        if not all(0 < rate <= LARGEST_STEP for rate in rates):
            raise ValueError(
                f"adapter_rate, text_rate and image_rate must be above 0 and at most {LARGEST_STEP:g}"
            )


@dataclass(frozen=True, kw_only=True)
class IISANConfig(Config):
    """All sections of IISAN; it reads texts and pictures, both."""

    network: SASRecConfig
    adapters: SideAdaptersConfig
    training: InBatchConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.features.text_pooling != "layers":
            raise ValueError('IISAN reads hidden states of texts: features.text_pooling must be "layers"')
        if (self.features.image_output == "layers") != (self.adapters.pictures == "layers"):
            raise ValueError(
                'adapters.pictures and features.image_output must both be "layers", or neither of them'
            )

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Names text and image."""
        return ("text", "image")


class IISAN(SequenceNetwork, LearningNetwork):
    """Predicts the next item from the hidden states that frozen encoders have of texts and pictures.

    Raises:
        DataError: no user has enough items.
        FeatureError: a modality is missing, or the states of the two do not fit together.
    """

    config_type = IISANConfig
    learning: InBatchConfig
    log_q: Tensor

    def __init__(self, config: IISANConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.learning, self.items = config.training, data.items
        # Attribute names are keys of the saved weights: renaming these two makes older runs unreadable.
        self.side = SideAdapters(
            config.adapters, config.network.dimension, data.features["text"], data.features["image"]
        )
        self.network = SASRec(config.network)
        long_enough = [history for history in data.histories if len(history) >= FEWEST]
        if not long_enough:
            raise DataError("no user has five items, the fewest that IISAN learns from: train another model")
        self._sequences = training_sequences(long_enough, config.network.length, config.training.windows)
        # Counted anew from the training data, so not saved with the weights.
        self.register_buffer("log_q", log_frequency(self._sequences, data.items), persistent=False)

    def item_vectors(self) -> Tensor:
        """Runs the side adapters on the whole catalogue, block by block, [items, d]."""
        rows = torch.arange(self.items, device=self.log_q.device)
        return torch.cat([self.side(block) for block in torch.split(rows, BLOCK)])

    def user_encoder(self) -> SASRec:
        """Returns the transformer."""
        return self.network

    @classmethod
    def restore_encoder(cls, config: Config, weights: Mapping[str, Tensor]) -> SASRec:
        """Rebuilds the transformer with trained weights; the item side is left out."""
        assert isinstance(config, IISANConfig)
        return SASRec.restored(config.network, weights)

    def batches(self, generator: torch.Generator) -> Sequence[Tensor]:
        """Takes every sequence once, in random order: item rows [B, n + 1], with -1s behind short ones."""
        return list(mixed_batches(self._sequences, self.learning.sequences, generator))

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Computes the loss of each next item against the items of the other sequences; draws nothing."""
        real = batch >= 0  # [B, n + 1]
        items = batch[real]  # [S], the slots: every item of every sequence, sequence by sequence
        owner = real.nonzero()[:, 0]  # [S], the sequence of a slot

        # The item side runs on the R different items of this batch alone, each once. embedding(i, x) is x[i]
        # with a gradient that adds up in a fixed order, with any number of threads.
        used, index = torch.unique(items, return_inverse=True)  # [R], [S]
        vectors = embedding(index, self.side(used))  # [S, d]

        own = torch.zeros(len(batch), len(used), dtype=torch.bool, device=batch.device)
        own[owner, index] = True  # [B, R]: the items that a sequence has

        target = (owner[1:] == owner[:-1]).nonzero()[:, 0] + 1  # [P]: every slot but a sequence's first
        read = embedding(target - 1, vectors)  # [P, d], the item before each
        return in_batch_softmax(
            self.network.packed(read, real.sum(dim=1) - 1),
            vectors,
            target,
            own=own[owner[target]][:, index],  # [P, S]
            log_q=self.log_q[items],
        )

    def optimiser(self) -> torch.optim.Optimizer:
        """Makes Adam with the authors' four learning rates (their ``run.py`` sorts by parameter names)."""
        side, learning = self.side, self.learning
        branches = (side.text, side.image, side.both)
        adapters = [each for branch in branches for each in branch.adapters.parameters()]
        image = [*side.image.dense.parameters(), side.image.gate_weights]
        groups = [
            (learning.adapter_rate, adapters),
            (learning.text_rate, list(side.text.dense.parameters())),
            (learning.image_rate, image),
        ]
        grouped = {id(each) for _, parameters in groups for each in parameters}
        groups.append((learning.learning_rate, [p for p in self.parameters() if id(p) not in grouped]))
        # Without weight decay, as in the authors' settings, AdamW is Adam.
        return torch.optim.AdamW(
            [{"params": parameters, "lr": rate} for rate, parameters in groups],
            weight_decay=learning.weight_decay,
        )


def log_frequency(sequences: Sequences, items: int) -> Tensor:
    """Computes log q, the logarithm of each item's share of all slots, float32 [items].

    An item in no sequence is in no batch either; it counts as one that occurs once, so that all are finite.
    """
    slots = torch.cat([rows.flatten() for rows in sequences.values()])
    counts = torch.bincount(slots, minlength=items).to(torch.float64)  # [items]
    return (counts.clamp(min=1) / counts.sum()).log().to(torch.float32)


def in_batch_softmax(states: Tensor, vectors: Tensor, targets: Tensor, own: Tensor, log_q: Tensor) -> Tensor:
    """Computes the debiased cross-entropy of each target slot against the slots of the whole batch.

    Out of the sum go all slots with an item of the position's own sequence, but for the target's slot; a copy
    of the target elsewhere in the batch is out too. They are -inf, which weighs nothing at any size of the
    scores; the -1e4 of the authors' code is the same until scores come near it. The target's own slot
    stays, so no position is without a logit.

    Args:
        states: user vectors [P, d].
        vectors: item vectors of the slots [S, d].
        targets: slots of the next items, int64 [P].
        own: bool [P, S], True where the slot's item is in the position's sequence.
        log_q: logarithm of the items' frequencies in training [S], subtracted so that popular items, which
            are in more batches, are no stronger negatives than others.

    Returns:
        The mean loss, in nats.
    """
    out = own.scatter(1, targets[:, None], False)  # [P, S]
    logits = (states @ vectors.T - log_q).masked_fill(out, float("-inf"))  # [P, S]
    return functional.cross_entropy(logits, targets)
