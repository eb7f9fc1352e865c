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
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.lab.options import positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.rounds import Limit, Ratio, any_broken, interleaved, verdicts
from benchmarks.lab.stats import median
from models import machine
from models.bundle.onnx_export import export_encoder
from models.bundle.whole_model_export import random_recommender
from models.contracts import ENCODER, ITEM_VECTORS, BackboneManifest, sha256_of
from models.networks.sasrec import SASRecConfig
from models.printed_table import Table
from service.candidates.base import CandidateModel
from service.candidates.graph import GraphModel
from service.candidates.sequence import SequenceModel
from service.catalogue.bundle import Backbone
from service.catalogue.file_copies import PrivateCopies
from service.catalogue.vectors import read_vectors

SASREC = "SASRec: encoder in ONNX Runtime, then all items"
GRAPH = "graph backbone: the user's vector, then all items"
LIMIT = Limit("median milliseconds of a graph backbone, as a share of SASRec's", most=1.0)
SIZE = SASRecConfig(dimension=128, length=20, blocks=2, heads=2, dropout=0.0)
"""Size of ``models/configs/sasrec.toml``."""

GRAPH_DIMENSION = 64
"""d of the paper's graph models."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--items", type=positive, default=12_101, help="default: 12101, Beauty")
    parser.add_argument("-k", type=positive, default=30, help="items per answer (default 30)")
    parser.add_argument("--users", type=positive, default=200, help="users of a round (default 200)")
    parser.add_argument("--rounds", type=positive, default=7, help="interleaved rounds (default 7)")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; returns 1 where a graph backbone is the slower one."""
    draw = np.random.default_rng(0)  # the same histories in every run and commit
    histories = [draw.choice(arguments.items, size=SIZE.length).tolist() for _ in range(arguments.users)]
    with tempfile.TemporaryDirectory() as folder:
        models = {
            SASREC: _sasrec(arguments.items, Path(folder)),
            GRAPH: _graph(arguments.items, arguments.users, draw),
        }
        with tqdm(total=2 * arguments.rounds, unit="stretch", disable=None) as bar:
            ways: dict[str, Callable[[], float]] = {
                name: partial(_milliseconds, model, histories, arguments.k, bar)
                for name, model in models.items()
            }
            measured = interleaved(ways, arguments.rounds)
    ratio = Ratio.of(measured[GRAPH], measured[SASREC])
    rows = [(name, f"{median(values):.3f}") for name, values in measured.items()]
    page = "\n".join(
        (
            "## Candidates of a graph backbone\n",
            machine.describe(machine.facts())
            + f"- {arguments.items} items, top {arguments.k}, one thread, one user at a time; SASRec with "
            + f"d {SIZE.dimension} and histories of {SIZE.length} items, the graph backbone with "
            + f"d {GRAPH_DIMENSION}; {arguments.users} users, {arguments.rounds} interleaved rounds\n"
            + f"- command: `{arguments.command_line}`\n",
            Table(("way", "ms per user"), tuple(rows)).markdown(),
            f"Spread of the ratio over rounds: {ratio.spread}.\n",
            verdicts([(LIMIT, ratio)]) + "\n",
        )
    )
    publish(page, arguments.markdown)
    return int(any_broken([(LIMIT, ratio)]))


def _sasrec(items: int, folder: Path) -> CandidateModel:
    network, vectors = random_recommender(SIZE, items, seed=0)
    export_encoder(network, folder / ENCODER)
    manifest, read = _manifest("sasrec", SIZE.dimension, SIZE.length), _read(folder, vectors)
    return SequenceModel(Backbone(manifest, read, (folder / ENCODER).read_bytes()), threads=1)


def _graph(items: int, users: int, draw: np.random.Generator) -> CandidateModel:
    vectors = draw.standard_normal((items + users, GRAPH_DIMENSION)).astype(np.float32)
    manifest = _manifest("bm3", GRAPH_DIMENSION, 0)
    with tempfile.TemporaryDirectory() as folder:
        read = _read(Path(folder), vectors[:items])
    return GraphModel(Backbone(manifest, read, None, user_vectors=vectors[items:]))


def _read(folder: Path, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reads vectors as the service does, from a file."""
    path, (items, dimension) = folder / ITEM_VECTORS, vectors.shape
    np.save(path, vectors)
    return read_vectors(path, sha256_of(path), items, dimension, PrivateCopies())


def _manifest(family: str, dimension: int, length: int) -> BackboneManifest:
    return BackboneManifest(
        name="measured",
        family=family,
        modalities=("id",),
        text_view="raw",
        captioner=None,
        catalogue_version="",
        length=length,
        dimension=dimension,
        config={},
        seed=0,
        device="cpu",
        epochs=0,
        seconds_per_epoch=0.0,
        metrics={},
    )


def _milliseconds(
    model: CandidateModel, histories: Sequence[Sequence[int]], k: int, bar: tqdm[None]
) -> float:
    """Returns the median milliseconds of one answer over all users."""
    times = []
    for user, history in enumerate(histories):
        begun = time.perf_counter()
        model.top(user, history, k, history)
        times.append(time.perf_counter() - begun)
    bar.update()
    return 1000 * median(times)
