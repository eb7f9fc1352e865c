"""Command ``training``: times an epoch of ours beside the usual way to write it, with equal losses."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.errors import BenchmarkError
from benchmarks.lab.options import positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.rounds import Limit, Ratio, any_broken, interleaved, verdicts
from benchmarks.lab.stats import median
from benchmarks.training.ways import losses, ours, usual
from models import machine
from models.data import registry
from models.data.dataset import Rows
from models.errors import ModelsError
from models.evaluation import leave_one_out
from models.networks.base import LearningNetwork, TrainingData
from models.networks.registry import FAMILIES
from models.printed_table import Table
from models.training.config import CONFIGS, load

LIMITS = {"sasrec": 2.0, "freedom": 3.0, "bm3": 3.0, "mmgcn": 2.0}
"""How many times as fast an epoch of ours must be, by configuration."""

SAME = 1e-4
"""Largest relative difference of the losses of both ways after three steps."""

EXACT = {
    "sasrec": ["network.dropout=0.0"],
    "freedom": ["training.pruning=0.0"],
    "bm3": ["network.dropout=0.0"],
    "mmgcn": [],
}
"""Settings by configuration with which both ways compute the same numbers."""

WIDTH = 384
"""Width of the drawn features, that of MiniLM."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="histories of a data set (default: drawn, of Beauty's size)",
    )
    parser.add_argument("--models", type=_models, default=tuple(LIMITS), help="default: " + ",".join(LIMITS))
    parser.add_argument(
        "--steps", type=positive, default=6, help="steps of an epoch that are timed (default 6)"
    )
    parser.add_argument("--rounds", type=positive, default=7, help="interleaved rounds (default 7)")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; returns 1 where a limit is not met.

    Raises:
        BenchmarkError: the data cannot be read, or both ways have different losses.
    """
    torch.set_num_threads(1)  # of the whole process, as long as it lives
    data = _read(arguments.data) if arguments.data else drawn(users=22_363, items=12_101)
    measured = {name: _measured(name, data, arguments) for name in arguments.models}
    ratios = {name: Ratio.of(seconds["usual"], seconds["ours"]) for name, seconds in measured.items()}
    checks = [
        (Limit(f"{name}: times as fast as the usual way", least=LIMITS[name]), ratio)
        for name, ratio in ratios.items()
    ]
    rows = [
        (
            name,
            f"{median(seconds['ours']):.1f}",
            f"{median(seconds['usual']):.1f}",
            str(ratios[name]),
            ratios[name].spread,
        )
        for name, seconds in measured.items()
    ]
    edges = sum(map(len, data.histories))
    page = "\n".join(
        (
            "## Training\n",
            machine.describe(machine.facts())
            + f"- {len(data.histories)} users, {data.items} items, {edges} interactions in training"
            + f"{'' if arguments.data else ', drawn'}; text features of width {WIDTH}, drawn\n"
            + f"- configurations of `models/configs`; one thread; {arguments.steps} steps an epoch are "
            + f"timed, {arguments.rounds} interleaved rounds\n"
            + "- the usual way: SASRec on histories padded to L; graphs as coalesced `torch.sparse`, all "
            + "items projected every step, negatives drawn one by one. Same weights, loss, widths and "
            + f"batch; after three steps the losses of both are equal to {SAME:g}\n"
            + f"- command: `{arguments.command_line}`\n",
            Table(("model", "ours, s an epoch", "usual", "times as fast", "min–max"), tuple(rows)).markdown(),
            verdicts(checks) + "\n",
        )
    )
    publish(page, arguments.markdown)
    return int(any_broken(checks))


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


def check_same_losses(name: str, network: LearningNetwork, data: TrainingData) -> None:
    """Checks that both ways have the same loss in three steps.

    Raises:
        BenchmarkError: they have not.
    """
    mine, theirs = losses(network, data)
    if not np.allclose(mine, theirs, rtol=SAME):
        raise BenchmarkError(
            f"{name}: the losses of three steps are {mine} here and {theirs} in the usual way"
        )


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


def _measured(name: str, data: TrainingData, arguments: argparse.Namespace) -> Mapping[str, list[float]]:
    check_same_losses(name, build(name, data, EXACT[name]), data)
    network = build(name, data, [])
    ways = {"ours": ours(network), "usual": usual(network, data)}
    with tqdm(total=2 * arguments.rounds, desc=name, unit="stretch", disable=None) as bar:

        def timed(way: str) -> float:
            seconds = ways[way].epoch_seconds(arguments.steps)
            bar.update()
            return seconds

        return interleaved({way: partial(timed, way) for way in ways}, arguments.rounds)


def _read(folder: Path) -> TrainingData:
    try:
        dataset = registry.read(folder)
    except (ModelsError, OSError) as error:
        raise BenchmarkError(str(error)) from error
    training = leave_one_out(dataset.histories).training
    return TrainingData(len(dataset.items), training, _features(len(dataset.items), WIDTH))


def _features(items: int, width: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return {"text": (torch.randn(items, width, generator=generator), torch.ones(items, dtype=torch.bool))}


def _models(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in LIMITS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(LIMITS)}")
    return names
