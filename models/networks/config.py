"""Defines the configuration that every model family has; a family adds its own sections in a subclass."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from models.features.config import FeatureConfig

Modality = Literal["id", "text", "image"]
"""What a family can read of an item: its row, its frozen text feature, its frozen image feature."""

Precision = Literal["fp32", "bf16"]
"""Numbers that the products of a training's losses are computed with."""

LARGEST_STEP = 1e36
"""Largest learning rate; beyond it a step may be no 32-bit number any more."""

LARGEST_SIZE = 16_384
"""Largest width, length or depth of a network; a larger one is a slip, and would only fill the memory."""


@dataclass(frozen=True)
class TrainingConfig:
    """The ``[training]`` section of a family that only counts.

    Attributes:
        seed: seed of everything random in a training, at least 0.
    """

    seed: int

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError("seed must not be negative")


@dataclass(frozen=True)
class LearningConfig(TrainingConfig):
    """The ``[training]`` section of a family that learns by gradient descent.

    Attributes:
        seed: seed of initial weights, order of batches, dropout and negatives, at least 0.
        epochs: largest number of epochs, at least 1.
        patience: epochs without a better validation after which training stops, at least 1.
        learning_rate: step size of the optimiser, above 0 and at most ``LARGEST_STEP``.
        weight_decay: weight decay of the optimiser, at least 0.
        select: validation metric that chooses the best epoch: ``N@5`` over candidates, or ``full.N@10`` over
            the whole catalogue.
        precision: ``bf16`` computes the products of matrices of a loss in bfloat16 (autocast), faster on a
            device that has it in hardware; validation, weights and exported vectors stay in fp32.
    """

    epochs: int
    patience: int
    learning_rate: float
    weight_decay: float
    select: Literal["N@5", "full.N@10"] = field(default="N@5", kw_only=True)
    precision: Precision = field(default="fp32", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.epochs, self.patience) < 1:
            raise ValueError("epochs and patience must be at least 1")
        if not 0 < self.learning_rate <= LARGEST_STEP:
            raise ValueError(f"learning_rate must be above 0 and at most {LARGEST_STEP:g}")
        if self.weight_decay < 0:
            raise ValueError("weight_decay must not be negative")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One training run: the sections of ``configs/*.toml`` that every family has.

    Attributes:
        family: name of the model family, a key of ``networks.registry.FAMILIES``.
        training: section of training; a family that learns narrows it to ``LearningConfig``.
        features: section of the frozen encoders, for families that read text or images.
    """

    family: str
    training: TrainingConfig
    features: FeatureConfig = field(default_factory=FeatureConfig)

    def __post_init__(self) -> None:
        # Checked here and not where features are made: the file is wrong before anything is computed.
        if self.features.text_view == "enhanced" and "text" not in self.modalities:
            raise ValueError("text_view enhanced needs text among the modalities")

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Names what the family reads of an item; text and image make a run compute frozen features."""
        return ("id",)

    def to_json(self) -> dict[str, Any]:
        """Returns the family and the sections as plain values."""
        return asdict(self)
