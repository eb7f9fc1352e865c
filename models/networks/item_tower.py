"""Makes item vectors: a learned table of ids, a projection of frozen features, or both.

SASRec learns one vector per item id. MoRec replaces the table by what encoders make of the item's text and
image, so that the same network recommends from contents. Both are this one class. This is MoRec (Yuan et al.,
SIGIR 2023) in its two-stage form: frozen encoders, a two-layer projection of ours; the authors also train end
to end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models.networks.config import LARGEST_SIZE, Modality


@dataclass(frozen=True)
class TowerConfig:
    """The ``[tower]`` section: the modalities of an item, and how they are joined.

    Attributes:
        modalities: parts of an item that are read, one or more of ``id``, ``text``, ``image``.
        fusion: way to join text and image: ``sum`` of projections, or ``concat``, one projection of both.
        hidden: width of the projections' hidden layer, at least 1.
        dropout: probability in [0, 1) inside the projections and on id vectors.
    """

    modalities: tuple[Modality, ...]
    fusion: Literal["sum", "concat"]
    hidden: int
    dropout: float

    def __post_init__(self) -> None:
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError("modalities must name at least one of id, text, image, each once")
        if not 1 <= self.hidden <= LARGEST_SIZE:
            raise ValueError(f"hidden must be at least 1 and at most {LARGEST_SIZE}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout}")


class IdTable(nn.Module):
    """Learns one vector per item."""

    def __init__(self, items: int, dimension: int, dropout: float) -> None:
        super().__init__()
        self.table = nn.Embedding(items, dimension)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.table.weight, std=0.02)  # torch's default of 1 saturates the first softmaxes

    def forward(self, rows: Tensor) -> Tensor:
        """Looks up the vectors of rows: int64 [R] -> [R, d]."""
        vectors: Tensor = self.dropout(self.table(rows))
        return vectors


class FrozenFeatures(nn.Module):
    """Holds the features of a frozen encoder; items without them share one learned vector."""

    features: Tensor
    present: Tensor

    def __init__(self, features: Tensor, present: Tensor) -> None:
        super().__init__()
        # Not in the state dict: frozen features have their own cache, and checkpoints stay small.
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("present", present, persistent=False)
        # Zero is the mean of standardised features: at first an item without them is an average one.
        self.missing = nn.Parameter(torch.zeros(features.shape[1]))

    def forward(self, rows: Tensor) -> Tensor:
        """Looks up the features of rows: int64 [R] -> [R, f]."""
        return torch.where(self.present[rows, None], self.features[rows], self.missing)


class Contents(nn.Module):
    """Projects frozen features of one or more modalities to item vectors.

    ``concat`` is one projection of all features side by side. A projection of the concatenated projections,
    the other possible reading, often learns nothing: its first vectors are too similar.
    """

    def __init__(self, sources: Sequence[FrozenFeatures], dimension: int, config: TowerConfig) -> None:
        super().__init__()
        self.concat = config.fusion == "concat"
        self.sources = nn.ModuleList(sources)
        widths = [source.features.shape[1] for source in sources]
        self.projections = nn.ModuleList(
            mlp(width, config.hidden, dimension, config.dropout)
            for width in ([sum(widths)] if self.concat else widths)
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Projects the features of rows: int64 [R] -> [R, d]."""
        features = [source(rows) for source in self.sources]  # [R, f] each
        if self.concat:
            features = [torch.cat(features, dim=1)]  # [R, sum of f]
        parts = [
            project(each) for project, each in zip(self.projections, features, strict=True)
        ]  # [R, d] each
        return torch.stack(parts).sum(dim=0)


class ItemTower(nn.Module):
    """Turns item rows into item vectors: the projection of the contents plus the learned vector of the id.

    Args:
        config: modalities and fusion.
        dimension: d, of the item vectors.
        items: size of the catalogue.
        features: float32 [items, f] and bool [items], True where the item has the feature, for each of text
            and image in the modalities.

    Raises:
        ValueError: the features of a modality are missing or have another number of rows.
    """

    def __init__(
        self,
        config: TowerConfig,
        dimension: int,
        items: int,
        features: Mapping[str, tuple[Tensor, Tensor]],
    ) -> None:
        super().__init__()
        self.items = items
        self.parts = nn.ModuleList()
        if "id" in config.modalities:
            self.parts.append(IdTable(items, dimension, config.dropout))
        contents = [modality for modality in config.modalities if modality != "id"]
        for modality in contents:
            if modality not in features or len(features[modality][0]) != items:
                raise ValueError(f"the item tower needs {modality} features of all {items} items")
        if contents:
            sources = [FrozenFeatures(*features[modality]) for modality in contents]
            self.parts.append(Contents(sources, dimension, config))

    def forward(self, rows: Tensor) -> Tensor:
        """Makes the vectors of rows: int64 [R] -> [R, d]."""
        assert rows.ndim == 1, rows.shape
        return torch.stack([part(rows) for part in self.parts]).sum(dim=0)  # [R, d]

    def all(self) -> Tensor:
        """Makes the vectors of the whole catalogue, [items, d]."""
        device = next(self.parameters()).device
        vectors: Tensor = self(torch.arange(self.items, device=device))
        return vectors


def mlp(inputs: int, hidden: int, outputs: int, dropout: float) -> nn.Sequential:
    """Makes a projection of two layers, from the encoder's space to the recommender's."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, outputs)
    )
