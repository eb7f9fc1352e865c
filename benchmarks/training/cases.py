"""Makes what is trained: histories, of a data set or drawn, random features, and networks for them."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.errors import BenchmarkError
from benchmarks.lab.options import positive
from models.data import registry
from models.data.dataset import Rows
from models.errors import ModelsError
from models.evaluation import leave_one_out
from models.networks.base import LearningNetwork, TrainingData
from models.networks.registry import FAMILIES
from models.training.config import CONFIGS, load

WIDTH = 384
"""Width of the drawn features, that of MiniLM."""


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the data."""
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="histories of a data set (default: they are drawn)"
    )
    parser.add_argument("--users", type=positive, default=22_363, help="drawn users (default 22363, Beauty)")
    parser.add_argument("--items", type=positive, default=12_101, help="drawn items (default 12101, Beauty)")


def data_options(arguments: argparse.Namespace) -> list[str]:
    """Writes the options of the data as they are given to another process."""
    if arguments.data:
        return ["--data", str(arguments.data)]
    return ["--users", str(arguments.users), "--items", str(arguments.items)]


def training_data(arguments: argparse.Namespace) -> TrainingData:
    """Reads or draws the training part of histories; features are drawn.

    Raises:
        BenchmarkError: the data set cannot be read.
    """
    if not arguments.data:
        return drawn(arguments.users, arguments.items)
    try:
        dataset = registry.read(arguments.data)
    except (ModelsError, OSError) as error:
        raise BenchmarkError(str(error)) from error
    items = len(dataset.items)
    return TrainingData(items, leave_one_out(dataset.histories).training, _features(items, WIDTH))


def drawn(users: int, items: int, width: int = WIDTH, seed: int = 0) -> TrainingData:
    """Draws histories of 3 items and more, 7 in the mean as in Beauty; items have a long tail."""
    draw = np.random.default_rng(seed)
    popularity = 1 / np.arange(10, items + 10)
    lengths = 3 + draw.geometric(1 / 4.9, users) - 1
    picked = draw.choice(items, int(lengths.sum()), p=popularity / popularity.sum()).astype(np.int32)
    histories: list[Rows] = [
        np.unique(each).astype(np.int32) for each in np.split(picked, np.cumsum(lengths)[:-1])
    ]
    return TrainingData(items, histories, _features(items, width))


def build(name: str, data: TrainingData, settings: list[str]) -> LearningNetwork:
    """Builds the network of a configuration on texts.

    Args:
        name: name of the configuration.
        data: histories and features.
        settings: changes of the configuration.
    """
    torch.manual_seed(0)
    config = load(CONFIGS / f"{name}.toml", settings)
    network = FAMILIES[config.family](config, data)
    assert isinstance(network, LearningNetwork)
    return network


def _features(items: int, width: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return {"text": (torch.randn(items, width, generator=generator), torch.ones(items, dtype=torch.bool))}
