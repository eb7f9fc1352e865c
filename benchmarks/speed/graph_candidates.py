"""Command ``graph``: times the candidates of a graph backbone beside those of SASRec, in turns.

A graph backbone looks a user's vector up where SASRec encodes the history; both then score all items.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.lab.options import positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.rounds import Limit, Ratio, any_broken, interleaved, verdicts
from benchmarks.lab.stats import median
from benchmarks.speed.opened_models import graph_model, sequence_model
from models import machine
from models.bundle.whole_model_export import random_recommender
from models.networks.bm3 import BM3Config
from models.networks.tower_recommender import TowerRecommenderConfig
from models.printed_table import Table
from models.training.config import load, path_of
from service.candidates.base import CandidateModel

SASREC = "SASRec: encoder in ONNX Runtime, then all items"
GRAPH = "graph backbone: the user's vector, then all items"

LIMIT = Limit("milliseconds of a graph backbone, as a share of SASRec's", most=1.0)
"""Bound on the ratio of the medians over users."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--items", type=positive, default=12_101, help="default: 12101, Beauty")
    parser.add_argument("-k", type=positive, default=30, help="items per answer (default 30)")
    parser.add_argument("--users", type=positive, default=200, help="users of a round (default 200)")
    parser.add_argument("--rounds", type=positive, default=7, help="interleaved rounds (default 7)")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; returns 1 where a graph backbone is the slower one."""
    sasrec, graph = load(path_of("sasrec")), load(path_of("bm3"))
    assert isinstance(sasrec, TowerRecommenderConfig)
    assert isinstance(graph, BM3Config)
    length, dimension = sasrec.network.length, graph.network.dimension
    draw = np.random.default_rng(0)  # the same histories in every run and commit
    histories = [draw.choice(arguments.items, size=length).tolist() for _ in range(arguments.users)]
    vectors = draw.standard_normal((arguments.items + arguments.users, dimension)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        models: dict[str, CandidateModel] = {
            SASREC: sequence_model(
                *random_recommender(sasrec.network, arguments.items, seed=0), Path(folder)
            ),
            GRAPH: graph_model(vectors[: arguments.items], vectors[arguments.items :], Path(folder)),
        }
    with tqdm(total=2 * arguments.rounds, unit="stretch", disable=None) as bar:
        ways: dict[str, Callable[[], float]] = {
            name: partial(_milliseconds, model, histories, arguments.k, bar) for name, model in models.items()
        }
        measured = interleaved(ways, arguments.rounds)
    ratio = Ratio.of(measured[GRAPH], measured[SASREC])
    rows = [(name, f"{median(values):.3f}") for name, values in measured.items()]
    page = "\n".join(
        (
            "## Candidates of a graph backbone\n",
            machine.describe(machine.facts())
            + f"- {arguments.items} items, top {arguments.k}, one thread, one user at a time; random weights "
            + f"at the sizes of `models/configs`: SASRec with d {sasrec.network.dimension} and histories of "
            + f"{length} items, a graph backbone (BM3) with d {dimension}; {arguments.users} users, "
            + f"{arguments.rounds} interleaved rounds\n"
            + f"- command: `{arguments.command_line}`\n",
            Table(("way", "ms per user"), tuple(rows)).markdown(),
            f"Spread of the ratio over rounds: {ratio.spread}.\n",
            verdicts([(LIMIT, ratio)]) + "\n",
        )
    )
    publish(page, arguments.markdown)
    return int(any_broken([(LIMIT, ratio)]))


def _milliseconds(
    model: CandidateModel, histories: Sequence[Sequence[int]], k: int, bar: tqdm[None]
) -> float:
    """Times one model on all users; returns the median milliseconds of an answer."""
    model.top(0, histories[0], k, histories[0])  # fills the processor's caches, which hold the other's data
    times = []
    for user, history in enumerate(histories):
        begun = time.perf_counter()
        model.top(user, history, k, history)
        times.append(time.perf_counter() - begun)
    bar.update()
    return 1000 * median(times)
