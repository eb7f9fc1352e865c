"""Read a data set, say what is in it and write the catalogue of a bundle.

  python -m models data --interactions orders.csv --items products.csv --pictures photos --bundle bundles/shop
  python -m models data --data path/to/beauty --bundle bundles/beauty

Tables of one's own: CSV, TSV, JSON Lines, JSON, Parquet, gzipped too. Folders: Amazon Review Plus, McAuley's
original files, RecBole's atomic files. models/data/README.md says what each holds.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.bundle.catalogue import as_written, read_catalogue, write_catalogue
from models.commands.options import add_reading_options
from models.contracts import CatalogueManifest
from models.contracts.one_writer import one_writer
from models.data import registry
from models.data.dataset import Dataset
from models.data.report import ReadingReport
from models.data.tables.columns import ROLES
from models.data.tables.shop import Shop, ShopFiles, read_shop
from models.errors import DataError


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the options of the command."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, metavar="FOLDER", help="a data set in a folder")
    source.add_argument(
        "--interactions", type=Path, metavar="FILE", help="a table of orders, clicks, ratings"
    )
    parser.add_argument("--items", type=Path, metavar="FILE", help="a table of products, for --interactions")
    add_reading_options(parser)
    parser.add_argument(
        "--bundle", type=Path, metavar="FOLDER", help="write its catalogue here; else only look"
    )
    parser.add_argument("--name", help="of the data set; by default from the folder or file names")
    parser.add_argument("--replace", action="store_true", help="replace another catalogue in the bundle")
    tables = parser.add_argument_group("tables (--interactions, --items)")
    for role in ROLES:
        tables.add_argument(
            f"--{role}-column", metavar="NAME", help="default: guessed" if role == ROLES[0] else None
        )
    tables.add_argument(
        "--dates",
        choices=("day-first", "month-first"),
        help="what 3/4/2024 means, if the column does not tell",
    )
    tables.add_argument(
        "--core", type=_whole, metavar="K", help="leave out users and items with fewer than K interactions"
    )


def run(args: Namespace) -> str:
    """Runs the command.

    Returns:
        The table to print.

    Raises:
        DataError: the data cannot be read, or the bundle cannot be written.
    """
    if args.bundle is not None and args.bundle.exists() and not args.bundle.is_dir():
        raise DataError(f"{args.bundle} is a file: --bundle names a folder, which is made if it is missing")
    if args.bundle is None:
        read = _read(args)
        return summary(as_written(read.dataset), read.columns)
    with one_writer(args.bundle):  # before the data are read, which may take minutes
        read = _read(args)
        manifest = _write(read.dataset, args.bundle, args.replace)
        written = read_catalogue(args.bundle)  # what the bundle holds: broken pictures are gone by now
    return f"{summary(written, read.columns)}\nwritten       {args.bundle}, version {manifest.version}"


def summary(dataset: Dataset, columns: Sequence[str] = ()) -> str:
    """Counts what a data set holds, one line each.

    Args:
        dataset: items, histories, and the report of their reading.
        columns: a line for each table about which column is what.
    """
    lengths = [len(history) for history in dataset.histories]
    untitled = sum(item.title is None for item in dataset.items)
    pictured = sum(item.image is not None for item in dataset.items)
    captions = (f"{name} {len(rows):,}" for name, rows in dataset.captions.items())
    read = dataset.report.to_json()["read"]
    rows = [
        ("data set", dataset.name),
        ("users", f"{len(dataset.users):,}"),
        (
            "items",
            f"{len(dataset.items):,}  (without title {untitled:,}, with picture {pictured:,})",
        ),
        ("interactions", f"{dataset.interactions:,}"),
        (
            "history",
            f"shortest {min(lengths)}, median {np.median(lengths):g}, mean {np.mean(lengths):.1f}, "
            f"longest {max(lengths):,}"
            if lengths
            else "none",
        ),
        ("captions", ", ".join(captions) or "none"),
        *(("columns", line) for line in columns),
        *([("read", ", ".join(f"{kind} {number:,}" for kind, number in read.items()))] if read else []),
        *dataset.report.lines(),
    ]
    return "\n".join(f"{name:<13} {value}" for name, value in rows)


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text} is not a whole number from 1")
    return int(text)


def _read(args: Namespace) -> Shop:
    said = {role: name for role in ROLES if (name := getattr(args, f"{role}_column")) is not None}
    if args.data is not None:
        of_tables = [
            *(["--items"] if args.items else []),
            *(f"--{role}-column" for role in said),
            *(["--dates"] if args.dates else []),
            *(["--core"] if args.core else []),
        ]
        if of_tables:
            raise DataError(f"{of_tables[0]} goes with --interactions, which names a table, not with --data")
        return Shop(registry.read(args.data, args.name, args.pictures, args.max_left_out), ())
    report = ReadingReport(args.max_left_out)
    files = ShopFiles(
        interactions=args.interactions,
        items=args.items,
        pictures=args.pictures,
        columns=said,
        day_first=None if args.dates is None else args.dates == "day-first",
        core=args.core,
    )
    read = read_shop(files, args.name, report)
    report.check()
    return read


def _write(dataset: Dataset, bundle: Path, replace: bool) -> CatalogueManifest:
    try:
        return write_catalogue(dataset, bundle, replace_other=replace)
    except OSError as error:
        raise DataError(
            f"{bundle} cannot be written ({error.strerror or error}): nothing of it is kept; make room, or "
            "name another folder with --bundle"
        ) from error
