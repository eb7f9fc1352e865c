"""Chooses the candidates of a replay: drawn, or those that a data set publishes, which no bundle holds."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.errors import BenchmarkError
from benchmarks.lab.cases import drawn_candidates, histories_of
from models.data import registry
from models.data.dataset import Dataset
from models.errors import ModelsError
from models.evaluation import CandidateSource, PublishedCandidates, leave_one_out
from service.catalogue.bundle import Catalogue

LEAST_KNOWN = 0.5
"""Share of a bundle's test users whom the data set must know; with fewer it is another data set."""

UNKNOWN = -1
"""Row of an item that the bundle lacks: its user is left out."""


def add_candidates_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options for the items that a target is ranked among."""
    parser.add_argument(
        "--candidates",
        choices=("drawn", "published"),
        default="drawn",
        help="negatives: drawn as in training (default), or those that the data set publishes",
    )
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="data set of the bundle, for --candidates published"
    )


def candidate_source(arguments: argparse.Namespace, catalogue: Catalogue) -> CandidateSource:
    """Returns the candidates that ``--candidates`` names.

    Raises:
        BenchmarkError: published ones are asked for without a data set, or a data set without them, or the
            data set is not the bundle's.
    """
    if arguments.candidates == "drawn":
        if arguments.data is not None:
            raise BenchmarkError("--data is read for --candidates published alone: give both or neither")
        return drawn_candidates(catalogue)
    if arguments.data is None:
        raise BenchmarkError(
            "a bundle holds no published candidates: add --data FOLDER, the data set that it was made of"
        )
    return published_candidates(catalogue, arguments.data)


def published_candidates(catalogue: Catalogue, folder: Path) -> PublishedCandidates:
    """Reads a data set and maps its negatives onto the rows of a bundle, by the ids of users and items.

    Args:
        catalogue: items and histories of an open bundle.
        folder: folder of the data set that the bundle was made of.

    Raises:
        BenchmarkError: the data set cannot be read, publishes no negatives, or is not that of the bundle.
    """
    try:
        # What the bundle left out is not judged again: a user or item that it lacks counts for nothing here.
        dataset = registry.read(folder, max_left_out=1.0)
    except (ModelsError, OSError) as error:
        raise BenchmarkError(str(error)) from error
    if not dataset.negatives:
        raise BenchmarkError(f"{folder} publishes no negatives: leave --candidates published out")
    position_of = _known_users(catalogue, dataset, folder)
    row_of = np.array([catalogue.rows.get(item.item_id, UNKNOWN) for item in dataset.items], dtype=np.int32)
    negatives = {
        position_of[user]: row_of[rows] for user, rows in dataset.negatives.items() if user in position_of
    }
    return PublishedCandidates(negatives, histories_of(catalogue), len(catalogue.items))


def _known_users(catalogue: Catalogue, dataset: Dataset, folder: Path) -> dict[int, int]:
    """Returns the bundle's position by the data set's, of the users who have one test item in both.

    Data sets number their users alike, so an id alone does not tell one from another.
    """
    # Position by the ids of user and test item.
    theirs = {
        (dataset.users[e.user], dataset.items[e.target].item_id): e.user
        for e in leave_one_out(dataset.histories).test
    }
    users, items = catalogue.histories.user_ids, catalogue.items
    ours = {
        (users[e.user], items[e.target].item_id): e.user for e in leave_one_out(histories_of(catalogue)).test
    }
    found = {theirs[ids]: user for ids, user in ours.items() if ids in theirs}
    if len(found) < LEAST_KNOWN * len(ours):
        raise BenchmarkError(
            f"{folder} has {len(found):,} of the {len(ours):,} test users of the bundle with the same last "
            "item: --data names the data set that the bundle was made of"
        )
    return found
