"""Declares and reads the options for the users and candidates that the test part is measured on."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from models.data.dataset import Dataset
from models.errors import DataError
from models.evaluation import AuthorsCohort, CandidateSource, CohortChoice, PublishedCandidates, UniformCohort
from models.evaluation.authors import AUTHORS, dataset_authors
from models.evaluation.candidates import DRAWN
from models.evaluation.cohort import UNIFORM
from models.evaluation.published import PUBLISHED

ALL = "all"
"""Value of ``--users`` that leaves no user out."""


def add_test_options(parser: ArgumentParser, default: str) -> None:
    """Declares ``--candidates``, ``--cohort``, ``--users`` and ``--authors``.

    Args:
        parser: parser of a command.
        default: users that the command measures without ``--users``, for the help.
    """
    parser.add_argument(
        "--candidates",
        choices=(DRAWN, PUBLISHED, AUTHORS),
        default=DRAWN,
        help="negatives of the test part: drawn (default), those that the data set publishes, or those that "
        "the paper's authors showed (Beauty)",
    )
    parser.add_argument(
        "--cohort",
        choices=(UNIFORM, AUTHORS),
        default=UNIFORM,
        help="users of the test part: all alike (default), or those whom the paper's authors asked about",
    )
    parser.add_argument(
        "--users", type=users, help=f"size of a seeded choice of users, or 'all' (default {default})"
    )
    parser.add_argument(
        "--authors",
        type=Path,
        metavar="FILE",
        help="users and candidates of the paper's authors, for --cohort and --candidates authors",
    )


def users(text: str) -> int | str:
    """Reads ``--users``, a whole number of at least 1 or ``all``; for argparse's ``type``.

    Raises:
        ArgumentTypeError: it is neither.
    """
    if text == ALL:
        return ALL
    # isdecimal refuses signs, spaces and underscores, which int() would take.
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text} is neither a positive whole number nor 'all'")
    return int(text)


def asks_authors(args: Namespace) -> bool:
    """Returns whether the options ask for users or candidates of the paper's authors.

    Raises:
        DataError: they do not, and name the file of the authors all the same.
    """
    asked = AUTHORS in (args.cohort, args.candidates)
    if args.authors is not None and not asked:
        raise DataError(
            "--authors is read for --cohort authors and --candidates authors alone: add one of them"
        )
    return asked


def cohort_of(args: Namespace, theirs: AuthorsCohort | None, default: int | None, seed: int) -> CohortChoice:
    """Returns the users that the options name.

    Args:
        args: options as ``add_test_options`` declares them.
        theirs: users of the paper's authors, where they are asked for.
        default: size of the seeded choice without ``--users``; None for all users.
        seed: seed of that choice.

    Raises:
        DataError: ``--users`` contradicts ``--cohort authors``.
    """
    if args.cohort == AUTHORS:
        assert theirs is not None
        theirs.check_users(args.users)
        return theirs
    wanted = default if args.users is None else args.users
    return UniformCohort(None if wanted == ALL else wanted, seed)


def dataset_test(args: Namespace, dataset: Dataset) -> tuple[CandidateSource | None, CohortChoice]:
    """Returns the candidates that the options name, None for drawn ones, and the users, by default all.

    Raises:
        DataError: the data set, or the file of the authors, has not what they ask for.
    """
    theirs = None
    if asks_authors(args):
        _check_is_data(args, "no internal ids, by which the paper's authors name users", "--cohort authors")
        theirs = dataset_authors(dataset, args.data, args.authors)
    cohort = cohort_of(args, theirs, default=None, seed=UniformCohort().seed)
    if args.candidates == AUTHORS:
        assert theirs is not None
        return theirs.candidates(), cohort
    return _published(args, dataset) if args.candidates == PUBLISHED else None, cohort


def _published(args: Namespace, dataset: Dataset) -> CandidateSource:
    _check_is_data(args, "no published candidates", "--candidates published")
    if not dataset.negatives:
        raise DataError(f"{args.data} publishes no negatives: leave --candidates published out")
    return PublishedCandidates(dataset.negatives, dataset.histories, len(dataset.items))


def _check_is_data(args: Namespace, lacks: str, choice: str) -> None:
    if args.data is None:
        raise DataError(
            f"{args.bundle} is a bundle and holds {lacks}: train with --data, or measure the bundle with "
            f"`python -m benchmarks replay {choice} --data FOLDER`"
        )
