"""A data set whose right answers are known by construction, and configurations small enough for tests.

Items belong to groups in a circle. After an item of group g every user takes some item of group g + 1. All
items are equally popular, so that popularity predicts nothing, and a model that learns ranks the next group
first. Texts and pictures each show the group, so that every item tower can learn it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.contracts import Item
from models.data.dataset import Dataset
from models.features import Features
from models.networks.config import Config
from models.training.config import from_json

GROUPS = 12
SIZE = 5
ITEMS = GROUPS * SIZE


def circle(users: int = 240, name: str = "circle") -> Dataset:
    """Returns a data set of users who follow the circle of groups, with 4 to 12 items each."""
    generator = np.random.default_rng(7)
    histories = []
    for _ in range(users):
        start, steps = generator.integers(GROUPS), generator.integers(4, 13)
        groups = (start + np.arange(steps)) % GROUPS
        histories.append((groups * SIZE + generator.integers(SIZE, size=steps)).astype(np.int32))
    items = tuple(Item(f"I{row:03d}", title=f"Thing {row}, kind {row // SIZE}") for row in range(ITEMS))
    return Dataset(name, items, tuple(f"u{user}" for user in range(users)), tuple(histories))


def circle_features() -> dict[str, Features]:
    """Returns frozen features that show the group, with noise; two items have none."""
    generator = np.random.default_rng(8)
    features = {}
    for modality in ("text", "image"):
        values = np.eye(GROUPS, dtype=np.float32)[np.arange(ITEMS) // SIZE]
        values = np.concatenate([values, generator.normal(size=(ITEMS, 4))], axis=1).astype(np.float32)
        present = np.ones(ITEMS, dtype=bool)
        present[[3, 17]] = False
        features[modality] = Features(values * present[:, None], present)
    return features


def record(**sections: dict[str, Any]) -> dict[str, Any]:
    """Returns a small configuration as plain values, with some of them changed."""
    values: dict[str, dict[str, Any]] = {
        "network": {"dimension": 16, "length": 6, "blocks": 1, "heads": 2, "dropout": 0.1},
        "tower": {"modalities": ["id"], "fusion": "sum", "hidden": 16, "dropout": 0.0},
        "training": {
            "seed": 1,
            "epochs": 3,
            "patience": 3,
            "positions": 128,
            "learning_rate": 0.01,
            "weight_decay": 0.0,
            "negatives": 20,
            "log_q": False,
            "temperature": 1.0,
        },
        "features": {},
    }
    for section, changes in sections.items():
        values[section] |= changes
    return values


def config(**sections: dict[str, Any]) -> Config:
    """Returns a small configuration, with some values changed."""
    return from_json(record(**sections), "toy")
