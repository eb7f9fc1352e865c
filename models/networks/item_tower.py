"""Makes item vectors: a learned table of ids, a projection of frozen features, or both.

SASRec learns one vector per item id. MoRec replaces the table by what encoders make of the item's text and
image, so that the same network recommends from contents. Both are this one class. This is MoRec (Yuan et al.,
SIGIR 2023) in its two-stage form: frozen encoders and a projection, of two layers by default; the authors
also train end to end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from models.networks.config import LARGEST_SIZE, Modality


@dataclass(frozen=True)
class TowerConfig:
    """The ``[tower]`` section: the modalities of an item, and how they are joined.

    Attributes:
        modalities: parts of an item that are read, one or more of ``id``, ``text``, ``image``.
        fusion: way to join text and image: ``sum`` of projections, or ``concat``, one projection of both.
        hidden: width of the hidden layer of ``mlp`` projections, at least 1.
        dropout: probability in [0, 1) inside the projections and on id vectors.
        projection: way from features to item vectors: ``mlp``, two layers with a GELU and dropout between
            them; ``linear``, one layer (MSRBench, section 3.1); or ``authors``, as its code has it: a layer
            and a GELU, then ``layers`` times dropout, a layer d → d and a GELU.
        layers: number of further layers of ``authors``; 0 for the other projections.
        table: what text and image features are: ``frozen``, or ``trained``, the first values of a table that
            training changes (S2 in MSRBench's words).
        id_width: width of a table of ids that is projected as features are (SASRec in MSRBench's code); 0 for
            vectors of length d that are added to the projection.
        start: weights of the projections and of id vectors before training: ``torch``, its defaults and
            N(0, 0.02²), or ``xavier``, Xavier normal with biases of zero.
    """

    modalities: tuple[Modality, ...]
    fusion: Literal["sum", "concat"]
    hidden: int
    dropout: float
    projection: Literal["mlp", "linear", "authors"] = field(default="mlp", kw_only=True)
    layers: int = field(default=0, kw_only=True)
    table: Literal["frozen", "trained"] = field(default="frozen", kw_only=True)
    id_width: int = field(default=0, kw_only=True)
    start: Literal["torch", "xavier"] = field(default="torch", kw_only=True)

    def __post_init__(self) -> None:
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError("modalities must name at least one of id, text, image, each once")
        if not 1 <= self.hidden <= LARGEST_SIZE:
            raise ValueError(f"hidden must be at least 1 and at most {LARGEST_SIZE}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout}")
        if not (0 <= self.layers <= LARGEST_SIZE and 0 <= self.id_width <= LARGEST_SIZE):
            raise ValueError(f"layers and id_width must be from 0 to {LARGEST_SIZE}")
        if self.layers and self.projection != "authors":
            raise ValueError('layers are those of projection = "authors"; with another one they must be 0')
        if self.id_width and "id" not in self.modalities:
            raise ValueError("id_width needs id among the modalities")
        if self.table == "trained" and self.modalities == ("id",):
            raise ValueError("table trained needs text or image among the modalities; ids are trained anyway")


class IdTable(nn.Module):
    """Learns one vector per item."""

    def __init__(self, items: int, dimension: int, config: TowerConfig) -> None:
        super().__init__()
        self.table = nn.Embedding(items, dimension)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.table.weight, std=0.02)  # torch's default of 1 saturates the first softmaxes
        if config.start == "xavier":
            nn.init.xavier_normal_(self.table.weight)

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
        self.width = features.shape[1]
        # Not in the state dict: frozen features have their own cache, and checkpoints stay small.
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("present", present, persistent=False)
        # Zero is the mean of standardised features: at first an item without them is an average one.
        self.missing = nn.Parameter(torch.zeros(features.shape[1]))

    def forward(self, rows: Tensor) -> Tensor:
        """Looks up the features of rows: int64 [R] -> [R, f]."""
        return torch.where(self.present[rows, None], self.features[rows], self.missing)


class TrainedFeatures(nn.Module):
    """Learns one row per item from the features of an encoder on; items without them begin at zero."""

    def __init__(self, features: Tensor, present: Tensor) -> None:
        super().__init__()
        self.width = features.shape[1]
        self.table = nn.Parameter(torch.where(present[:, None], features, 0.0))

    def forward(self, rows: Tensor) -> Tensor:
        """Looks up the present rows: int64 [R] -> [R, f]."""
        return embedding(rows, self.table)


class WideIds(nn.Embedding):
    """Learns one row per item, from N(0, 1) on, that a projection turns into the item's vector."""

    def __init__(self, items: int, width: int) -> None:
        super().__init__(items, width)
        self.width = width


Source = FrozenFeatures | TrainedFeatures | WideIds
"""What a projection reads: item rows int64 [R] -> [R, width]."""


class ProjectedContents(nn.Module):
    """Projects what is known of an item to its vector, by default the frozen features of its modalities.

    ``concat`` is one projection of all features side by side. A projection of the concatenated projections,
    the other possible reading, often learns nothing: its first vectors are too similar.
    """

    def __init__(self, sources: Sequence[Source], dimension: int, config: TowerConfig) -> None:
        super().__init__()
        self.concat = config.fusion == "concat"
        self.sources = nn.ModuleList(sources)
        widths = [source.width for source in sources]
        self.projections = nn.ModuleList(
            projection(width, dimension, config) for width in ([sum(widths)] if self.concat else widths)
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
        sources: list[Source] = []
        if config.id_width:
            sources.append(WideIds(items, config.id_width))
        elif "id" in config.modalities:
            self.parts.append(IdTable(items, dimension, config))
        contents = [modality for modality in config.modalities if modality != "id"]
        kind = FrozenFeatures if config.table == "frozen" else TrainedFeatures
        sources += [kind(*features[modality]) for modality in contents]
        if sources:
            self.parts.append(ProjectedContents(sources, dimension, config))

    def forward(self, rows: Tensor) -> Tensor:
        """Makes the vectors of rows: int64 [R] -> [R, d]."""
        assert rows.ndim == 1, rows.shape
        return torch.stack([part(rows) for part in self.parts]).sum(dim=0)  # [R, d]

    def all(self) -> Tensor:
        """Makes the vectors of the whole catalogue, [items, d]."""
        device = next(self.parameters()).device
        vectors: Tensor = self(torch.arange(self.items, device=device))
        return vectors


def projection(width: int, dimension: int, config: TowerConfig) -> nn.Sequential:
    """Makes a projection from an encoder's space to the recommender's: [R, width] -> [R, d]."""
    if config.projection == "mlp":
        layers = [
            nn.Linear(width, config.hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, dimension),
        ]
    else:
        layers = [nn.Linear(width, dimension)]
    if config.projection == "authors":
        layers.append(nn.GELU())
        for _ in range(config.layers):
            layers += [nn.Dropout(config.dropout), nn.Linear(dimension, dimension), nn.GELU()]
    for layer in layers:
        if config.start == "xavier" and isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)
