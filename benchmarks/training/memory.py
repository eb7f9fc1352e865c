"""Measures the memory of a training at its peak, in a process of its own.

Run by itself, this module is that process: it builds the network, makes the batches of an epoch, takes some
steps, and computes the vectors of all users and items, as a validation does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch

from benchmarks.errors import BenchmarkError
from benchmarks.lab.measured_run import run_measured
from benchmarks.lab.options import positive
from benchmarks.training.cases import add_data_arguments, build, data_options, training_data
from benchmarks.training.ways import ours
from models.networks.base import GraphNetwork


def peak_bytes(name: str, arguments: argparse.Namespace) -> int:
    """Measures the resident memory of a training at its peak, Python and torch included.

    Args:
        name: name of the configuration.
        arguments: options of the data, and ``steps``.

    Raises:
        BenchmarkError: the process failed.
    """
    options = [*data_options(arguments), "--steps", str(arguments.steps)]
    done = run_measured([sys.executable, "-m", __name__, name, *options])
    if done.status:
        last = (done.errors.strip().splitlines() or [f"it ended with status {done.status}"])[-1]
        raise BenchmarkError(f"{name}: its memory could not be measured: {last}")
    return done.peak_bytes


def main(argv: Sequence[str] | None = None) -> int:
    """Trains for some steps; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--steps", type=positive, required=True)
    add_data_arguments(parser)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    network = build(options.name, training_data(options), [])
    way = ours(network)
    del network  # the way has a copy
    way.network.train()
    for batch in way.batches()[: options.steps]:
        way.step(batch)
    way.network.eval()
    with torch.no_grad():
        way.network.item_vectors()
        if isinstance(way.network, GraphNetwork):
            way.network.user_vectors()
    return 0


if __name__ == "__main__":
    sys.exit(main())
