"""Command ``candidates``: times candidate generation from a bundle beside other ways to serve its weights.

All ways run on one thread, in fp32, with batch 1 and top 30. They are measured in turns, and must recommend
the same items.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.errors import BenchmarkError
from benchmarks.lab.options import positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.rounds import Limit, Ratio, interleaved
from benchmarks.lab.stats import median
from benchmarks.speed.opened_models import sequence_model
from models import machine
from models.bundle.backbone import load_encoder
from models.bundle.whole_model_export import TopK, WholeModel, plain_onnx, random_recommender, torch_eager
from models.data.dataset import Rows
from models.errors import ModelsError
from models.networks.sasrec import SASRec, SASRecConfig
from models.printed_table import Table
from models.training.run import Run

BUNDLE = "bundle: encoder in ONNX Runtime, scores in numpy"
EAGER = "torch eager, whole model"
EAGER_LAST = "torch eager, last position only"
PLAIN = "plain ONNX export, item table and TopK inside"
PLAIN_LAST = "plain ONNX export, last position only"
TOLERANCE = 1e-4
"""Largest difference of two scores, relative to the best one, that counts as rounding; beyond it the command
fails."""

LIMITS = {
    EAGER: Limit(f"times as fast as {EAGER!r}", least=2.0),
    PLAIN: Limit(f"times as fast as {PLAIN!r}", least=1.0),
}
"""Limits on the speed of the bundle, by the way that it is compared with."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument(
        "--random", action="store_true", help="random weights at the paper's size on Beauty, in SASRec's form"
    )
    weights.add_argument(
        "--run", dest="folder", type=Path, help="trained weights: a folder of `python -m models train`"
    )
    parser.add_argument(
        "--items", type=positive, default=12_101, help="with --random (default 12101, Beauty)"
    )
    parser.add_argument(
        "--dimension", type=positive, default=512, help="with --random: d (default 512, the paper's)"
    )
    parser.add_argument(
        "--length", type=positive, default=10, help="with --random: L (default 10, the paper's)"
    )
    parser.add_argument("-k", type=positive, default=30, help="items per answer (default 30)")
    parser.add_argument("--users", type=positive, default=40, help="histories of full length (default 40)")
    parser.add_argument("--rounds", type=positive, default=15, help="interleaved rounds (default 15)")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code.

    Raises:
        BenchmarkError: the weights cannot be read, or two ways recommend different items.
    """
    network, vectors = _weights(arguments)
    if arguments.k > len(vectors):
        raise BenchmarkError(f"there are {len(vectors)} items and -k is {arguments.k}")
    # The same histories in every run and commit.
    draw = np.random.default_rng(0)
    # Items of a history are different, so it cannot be longer than the catalogue.
    length = min(network.config.length, len(vectors))
    histories = [
        draw.choice(len(vectors), size=length, replace=False).astype(np.int32) for _ in range(arguments.users)
    ]
    with tempfile.TemporaryDirectory() as folder:
        ways = _ways(network, vectors, arguments.k, Path(folder))
        # Checked before anything is timed: ways to different items cannot be compared.
        identical = check_same_items(ways, histories)
        with tqdm(total=arguments.rounds * len(ways), unit="stretch", disable=None) as bar:
            measured = interleaved(
                {name: partial(_milliseconds, top_k, histories, bar) for name, top_k in ways.items()},
                arguments.rounds,
            )
    page = _page(measured, network.config, len(vectors), identical, arguments)
    publish(page, arguments.markdown)
    return 0


def check_same_items(ways: Mapping[str, TopK], histories: Sequence[Rows]) -> float:
    """Checks that all ways recommend the same; returns the share of answers that are equal item by item.

    Items whose scores differ by rounding alone may have another order, or be on the other side of rank k.

    Raises:
        BenchmarkError: two ways differ by more.
    """
    (reference, top_k), *others = ways.items()
    equal = 0
    for history in histories:
        rows, scores = top_k(history)
        for name, other in others:
            other_rows, other_scores = other(history)
            equal += np.array_equal(rows, other_rows)
            # An absolute tolerance: scores near 0 have rounding errors as large as those of the best one.
            if not np.allclose(scores, other_scores, rtol=0, atol=TOLERANCE * float(np.abs(scores).max())):
                raise BenchmarkError(
                    f"{name!r} and {reference!r} score the best items after {history.tolist()} differently"
                )
            _check_swaps(name, rows, scores, other_rows)
    # The share over all pairs of the reference with another way.
    return equal / (len(histories) * len(others))


def timing_table(measured: Mapping[str, list[float]]) -> Table:
    """Tabulates median milliseconds per user of each way, and how many times as fast the bundle is."""
    ratios = {name: Ratio.of(values, measured[BUNDLE]) for name, values in measured.items()}
    return Table(
        ("way", "ms per user", "bundle is faster by", "min–max"),
        tuple(
            (name, f"{median(values):.3f}", str(ratios[name]), ratios[name].spread)
            for name, values in measured.items()
        ),
    )


def verdicts(measured: Mapping[str, list[float]]) -> str:
    """Returns a paragraph on whether the bundle met its limits."""
    said = (limit.verdict(Ratio.of(measured[name], measured[BUNDLE])) for name, limit in LIMITS.items())
    return (
        f"Held to, in this run: {'; '.join(said)}. "
        "The 'last position only' rows are extra opponents: nothing is held to them."
    )


def _check_swaps(
    name: str, rows: NDArray[np.int64], scores: NDArray[np.float32], other_rows: NDArray[np.int64]
) -> None:
    """Checks that an item that only one of two answers holds has the score of rank k.

    Args:
        name: name of the other way.
        rows: item rows of the reference, best first [k].
        scores: scores of these rows [k].
        other_rows: item rows of the other way [k].

    Raises:
        BenchmarkError: an item that the other way lacks has a better score.
    """
    missing = ~np.isin(rows, other_rows)
    if missing.any() and float(scores[missing].max() - scores[-1]) > TOLERANCE * float(np.abs(scores).max()):
        raise BenchmarkError(
            f"{name!r} leaves out the items {rows[missing].tolist()} that another way recommends"
        )


def _weights(arguments: argparse.Namespace) -> tuple[SASRec, NDArray[np.float32]]:
    if arguments.random:
        config = SASRecConfig(
            dimension=arguments.dimension, length=arguments.length, blocks=2, heads=2, dropout=0.0
        )
        return random_recommender(config, arguments.items, seed=0)
    try:
        found = Run(arguments.folder)
        network, vectors = load_encoder(found), found.item_vectors()
    except (ModelsError, OSError) as error:
        raise BenchmarkError(f"no trained weights in {arguments.folder}: {error}") from error
    if not isinstance(network, SASRec):
        raise BenchmarkError(f"{arguments.folder} is no run of SASRec or MoRec")
    return network, vectors


def _ways(network: SASRec, vectors: NDArray[np.float32], k: int, folder: Path) -> dict[str, TopK]:
    whole, last = (WholeModel(network, vectors, k, last_only) for last_only in (False, True))
    return {
        BUNDLE: _from_bundle(network, vectors, k, folder),
        PLAIN_LAST: plain_onnx(last, folder / "last.onnx"),
        PLAIN: plain_onnx(whole, folder / "whole.onnx"),
        EAGER_LAST: torch_eager(last),
        EAGER: torch_eager(whole),
    }


def _from_bundle(network: SASRec, vectors: NDArray[np.float32], k: int, folder: Path) -> TopK:
    """Opens the service's candidate model on files as a bundle holds them."""
    model = sequence_model(network, vectors, folder)

    def top_k(history: Rows) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        rows, scores = model.top(None, history.tolist(), k, ())
        return np.array(rows), np.array(scores, dtype=np.float32)

    return top_k


def _milliseconds(top_k: TopK, histories: Sequence[Rows], bar: tqdm[None]) -> float:
    """Times one way on all histories; returns the median milliseconds over users."""
    top_k(histories[-1])  # fills the processor's caches, which hold another way's data
    times = []
    for history in histories:
        begun = time.perf_counter()
        top_k(history)
        times.append(time.perf_counter() - begun)
    bar.update()
    return 1000 * median(times)


def _page(
    measured: Mapping[str, list[float]],
    config: SASRecConfig,
    items: int,
    identical: float,
    arguments: argparse.Namespace,
) -> str:
    weights = "random weights" if arguments.random else f"weights of {arguments.folder.name}"
    return "\n".join(
        (
            "## Candidate generation\n",
            machine.describe(machine.facts())
            + f"- model: SASRec, d {config.dimension}, L {config.length}, {config.blocks} blocks, "
            + f"{config.norm}-norm, feed-forward {config.feed_forward or config.dimension}, "
            + f"{items} items, {weights}\n"
            + f"- one thread, fp32, batch 1, top {arguments.k}; {arguments.users} users, "
            + f"{arguments.rounds} interleaved rounds\n"
            + f"- same items: {100 * identical:.1f} % of the answers are equal item by item, "
            + "the others but for ties\n"
            + f"- command: `{arguments.command_line}`\n",
            timing_table(measured).markdown(),
            "Medians over users, then over rounds. A ratio is taken within each round, shown as the median "
            "and the extremes over rounds, so it need not be the ratio of the medians.\n",
            verdicts(measured) + "\n",
        )
    )
