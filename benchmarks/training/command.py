"""Command ``training``: times an epoch of ours beside the usual way to write it, with equal losses."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.errors import BenchmarkError
from benchmarks.lab.options import positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.rounds import Limit, Ratio, any_broken, interleaved, verdicts
from benchmarks.lab.stats import median
from benchmarks.training.cases import WIDTH, add_data_arguments, build, training_data
from benchmarks.training.memory import peak_bytes
from benchmarks.training.ways import losses, ours, usual
from models import machine
from models.networks.base import LearningNetwork, TrainingData
from models.printed_table import Table

LIMITS = {"sasrec": 2.0, "freedom": 3.0, "bm3": 3.0, "mmgcn": 2.0}
"""How many times as fast an epoch of ours must be, by configuration."""

SAME = 1e-4
"""Largest relative difference of the losses of both ways, before the first step to after the third."""

EXACT = {
    "sasrec": ["network.dropout=0.0"],
    "freedom": ["training.pruning=0.0"],
    "bm3": ["network.dropout=0.0"],
    "mmgcn": [],
}
"""Settings by configuration with which both ways compute the same numbers."""

MOST_GB = 4.0
"""Limit on the resident memory of ours at its peak, in 10^9 bytes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_data_arguments(parser)
    parser.add_argument("--models", type=_models, default=tuple(LIMITS), help="default: " + ",".join(LIMITS))
    parser.add_argument(
        "--steps", type=positive, default=6, help="steps of an epoch that are timed (default 6)"
    )
    parser.add_argument("--rounds", type=positive, default=7, help="interleaved rounds (default 7)")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; returns 1 where a limit is not met.

    Raises:
        BenchmarkError: the data cannot be read, both ways have different losses, or the process whose
            memory is measured failed.
    """
    torch.set_num_threads(1)  # of the whole process, as long as it lives
    data = training_data(arguments)
    seconds = {name: _measured(name, data, arguments) for name in arguments.models}
    faster = {name: Ratio.of(each["usual"], each["ours"]) for name, each in seconds.items()}
    gigabytes = {name: peak_bytes(name, arguments) / 1e9 for name in arguments.models}
    checks = [
        (Limit(f"{name}: times as fast as the usual way", least=LIMITS[name]), ratio)
        for name, ratio in faster.items()
    ]
    checks += [
        (Limit(f"{name}: memory, as a share of {MOST_GB:g} GB", most=1.0), Ratio.of([peak], [MOST_GB]))
        for name, peak in gigabytes.items()
    ]
    rows = [
        (
            name,
            f"{median(each['ours']):.1f}",
            f"{median(each['usual']):.1f}",
            str(faster[name]),
            faster[name].spread,
            f"{gigabytes[name]:.2f}",
        )
        for name, each in seconds.items()
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
            Table(
                ("model", "ours, s an epoch", "usual", "times as fast", "min–max", "ours, GB at the peak"),
                tuple(rows),
            ).markdown(),
            "Medians over rounds. A ratio is taken within each round, so it need not be the ratio of the "
            "medians. Memory is that of a process that trains ours and nothing else, Python and torch "
            "included.\n",
            verdicts(checks) + "\n",
        )
    )
    publish(page, arguments.markdown)
    return int(any_broken(checks))


def check_same_losses(name: str, network: LearningNetwork, data: TrainingData) -> None:
    """Checks that both ways have the same loss before, between and after three steps.

    Raises:
        BenchmarkError: they have not.
    """
    mine, theirs = losses(network, data)
    if not np.allclose(mine, theirs, rtol=SAME):
        raise BenchmarkError(
            f"{name}: the losses around three steps are {mine} here and {theirs} in the usual way"
        )


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


def _models(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in LIMITS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(LIMITS)}")
    return names
