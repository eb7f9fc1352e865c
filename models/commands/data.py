"""Read a data set, say what is in it and write the catalogue of a bundle.

Layouts: Amazon Review Plus (datamaps.json, item2side.json, sequential.txt) and McAuley's original files
(reviews_X_5.json.gz or reviews_X.json.gz with meta_X.json.gz).
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

import numpy as np

from models.bundle.catalogue import read_catalogue, write_catalogue
from models.contracts.one_writer import one_writer
from models.data import registry
from models.data.dataset import Dataset


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the options of the command."""
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="the data set")
    parser.add_argument(
        "--bundle", type=Path, metavar="FOLDER", help="write its catalogue here; else only look"
    )
    parser.add_argument("--name", help="of the data set; by default from the folder or file names")
    parser.add_argument(
        "--photos", type=Path, metavar="FOLDER", help="item pictures, if not in the usual place"
    )
    parser.add_argument("--replace", action="store_true", help="replace another catalogue in the bundle")
    parser.add_argument(
        "--max-left-out",
        type=share,
        metavar="SHARE",
        help="share of the records of one kind that may be left out, such as 5%% or 0.05 (default: 1%%, or "
        "ten records in a small data set)",
    )


def run(args: Namespace) -> str:
    """Runs the command.

    Returns:
        The table to print.
    """
    if args.bundle is None:
        return summary(registry.read(args.data, args.name, args.photos, args.max_left_out))
    with one_writer(args.bundle):  # before the data are read, which may take minutes
        dataset = registry.read(args.data, args.name, args.photos, args.max_left_out)
        manifest = write_catalogue(dataset, args.bundle, replace_other=args.replace)
        written = read_catalogue(args.bundle)  # what the bundle holds: broken pictures are gone by now
    return f"{summary(written)}\nwritten       {args.bundle}, version {manifest.version}"


def summary(dataset: Dataset) -> str:
    """Counts what a data set holds, one line each."""
    lengths = [len(history) for history in dataset.histories]
    without_title = sum(item.title is None for item in dataset.items)
    with_image = sum(item.image is not None for item in dataset.items)
    captions = (f"{name} {len(rows):,}" for name, rows in dataset.captions.items())
    rows = {
        "data set": dataset.name,
        "users": f"{len(dataset.users):,}",
        "items": f"{len(dataset.items):,}  (without title {without_title:,}, with image {with_image:,})",
        "interactions": f"{dataset.interactions:,}",
        "history": (
            f"shortest {min(lengths)}, median {np.median(lengths):g}, mean {np.mean(lengths):.1f}, "
            f"longest {max(lengths):,}"
            if lengths
            else "none"
        ),
        "captions": ", ".join(captions) or "none",
    }
    return "\n".join(f"{name:<13} {value}" for name, value in [*rows.items(), *dataset.report.lines()])


def share(text: str) -> float:
    """Reads an option that is a share of one, as a number or in percent; for argparse's ``type``."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"{text} is not a share such as 5% or 0.05")
    return value
