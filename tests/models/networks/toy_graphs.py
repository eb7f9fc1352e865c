"""A data set of blocks for graph families: every user takes all items of one block, in an order of their own.

What a user has not had in training is so the rest of the block, which other users of the block had. The
features of ``toy_models`` show the block, since its groups are these blocks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from toy_models import GROUPS, ITEMS, SIZE, circle_features

from models.contracts import Item
from models.data.dataset import Dataset
from models.networks.config import Config
from models.training.config import from_json
from models.training.loop import build

PAIRS = {
    "seed": 1,
    "epochs": 3,
    "patience": 3,
    "learning_rate": 0.01,
    "weight_decay": 0.0,
    "batch": 64,
}
"""The ``[training]`` section that families of pairs share."""

SECTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "freedom": {
        "network": {
            "dimension": 8,
            "modalities": ["text", "image"],
            "neighbours": 3,
            "image_weight": 0.25,
            "item_layers": 1,
            "layers": 2,
        },
        "training": {**PAIRS, "pruning": 0.5, "content_weight": 0.1},
    },
    "bm3": {
        "network": {"dimension": 8, "modalities": ["text", "image"], "layers": 1, "dropout": 0.3},
        "training": {**PAIRS, "content_weight": 2.0, "regularisation": 0.01},
    },
}


def blocks(users: int = 120) -> Dataset:
    """Returns a data set of users who each take the items of one block."""
    generator = np.random.default_rng(5)
    histories = tuple(
        (user % GROUPS * SIZE + generator.permutation(SIZE)).astype(np.int32) for user in range(users)
    )
    items = tuple(Item(f"I{row:03d}", title=f"Thing {row // SIZE}") for row in range(ITEMS))
    return Dataset("blocks", items, tuple(f"u{user}" for user in range(users)), histories)


def graph_config(family: str, **sections: dict[str, Any]) -> Config:
    """Returns a small configuration of a graph family, with some values changed."""
    values = {section: dict(each) for section, each in SECTIONS[family].items()}
    for section, changes in sections.items():
        values.setdefault(section, {}).update(changes)
    return from_json({"family": family, **values}, "toy")


def graph_network(family: str, **sections: dict[str, Any]) -> Any:
    """Returns an untrained network of a graph family on the blocks."""
    return build(graph_config(family, **sections), blocks(), circle_features())
