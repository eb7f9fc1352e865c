"""Declares the options that commands that read a data set share."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path


def add_reading_options(parser: ArgumentParser) -> None:
    """Declares where the pictures of a data set are, and how much of it may be left out."""
    parser.add_argument(
        "--pictures",
        "--photos",
        type=Path,
        metavar="FOLDER",
        help="item pictures; for --data, if not in the usual place",
    )
    parser.add_argument(
        "--max-left-out",
        type=share,
        metavar="SHARE",
        help="share of the records of one kind that may be left out, such as 5%% or 0.05 (default: 1%%, or "
        "ten records in a small data set)",
    )


def share(text: str) -> float:
    """Reads an option that is a share of one, as a number or in percent; for argparse's ``type``.

    Raises:
        ArgumentTypeError: it is no number, or not between 0 and 1.
    """
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"{text} is not a share such as 5% or 0.05")
    return value
