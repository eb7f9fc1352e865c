"""Chooses the users and candidates of a replay; those that were published are in no bundle."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.errors import BenchmarkError
from benchmarks.lab.cases import drawn_candidates, histories_of
from models.commands.cohort_options import add_test_options, asks_authors, cohort_of
from models.data import registry
from models.data.dataset import Dataset
from models.errors import ModelsError
from models.evaluation import (
    COHORT_SIZE,
    AuthorsCohort,
    CandidateSource,
    CohortChoice,
    PublishedCandidates,
    authors_cohort,
    leave_one_out,
)
from models.evaluation.authors import AUTHORS
from models.evaluation.published import PUBLISHED
from service.catalogue.bundle import Catalogue

LEAST_KNOWN = 0.5
"""Share of a bundle's test users whom the data set must know; with fewer it is another data set."""

UNKNOWN = -1
"""Row of an item that the bundle lacks: its user is left out."""


def add_candidates_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options for the users, and for the items that a target is ranked among."""
    add_test_options(parser, default=str(COHORT_SIZE))
    parser.add_argument("--seed", type=int, default=2024, help="seed of the choice of users (default 2024)")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="data set of the bundle, for candidates that are not drawn and for --cohort authors",
    )


def users_and_candidates(
    arguments: argparse.Namespace, catalogue: Catalogue
) -> tuple[CohortChoice, CandidateSource]:
    """Returns the users and candidates that the options name.

    Raises:
        BenchmarkError: published ones, or those of the paper's authors, are asked for without a data set, or
            the data set or the file of the authors has none, or is not that of the bundle.
    """
    try:
        authors = asks_authors(arguments)
        _check_data(arguments, authors)
        theirs = _authors(arguments, catalogue) if authors else None
        choice = cohort_of(arguments, theirs, default=COHORT_SIZE, seed=arguments.seed)
        if arguments.candidates == AUTHORS and theirs is not None:
            return choice, theirs.candidates()
    except (ModelsError, OSError) as error:
        raise BenchmarkError(str(error)) from error
    if arguments.candidates == PUBLISHED:
        return choice, published_candidates(catalogue, arguments.data)
    return choice, drawn_candidates(catalogue)


def _check_data(arguments: argparse.Namespace, authors: bool) -> None:
    needed = authors or arguments.candidates == PUBLISHED
    if arguments.data is not None and not needed:
        raise BenchmarkError(
            "--data is read for --candidates published or authors and for --cohort authors alone: give both "
            "or neither"
        )
    if arguments.data is None and needed:
        what = (
            "no internal ids, by which the paper's authors name users"
            if authors
            else "no published candidates"
        )
        raise BenchmarkError(f"a bundle holds {what}: add --data FOLDER, the data set that it was made of")


def _authors(arguments: argparse.Namespace, catalogue: Catalogue) -> AuthorsCohort:
    users, category = catalogue.histories.users, catalogue.manifest.dataset
    histories = histories_of(catalogue)
    return authors_cohort(arguments.authors, category, arguments.data, users, catalogue.rows, histories)


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
