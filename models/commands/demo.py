"""Make the demo catalogue: about 600 invented products with rendered pictures, and 2,000 users.

Titles say some attributes and pictures show others; users have tastes over both.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from tempfile import TemporaryDirectory

from models.bundle.catalogue import write_catalogue
from models.commands.data import summary
from models.contracts.one_writer import one_writer
from models.data import demo


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the options of the command."""
    parser.add_argument(
        "--bundle", type=Path, required=True, metavar="FOLDER", help="write the catalogue here"
    )
    parser.add_argument(
        "--seed", type=int, default=demo.SEED, help="another seed, another shop (default %(default)s)"
    )
    parser.add_argument("--replace", action="store_true", help="replace another catalogue in the bundle")


def run(args: Namespace) -> str:
    """Runs the command.

    Returns:
        The table to print.
    """
    with one_writer(args.bundle), TemporaryDirectory() as pictures:
        dataset = demo.generate(Path(pictures), args.seed)
        manifest = write_catalogue(dataset, args.bundle, replace_other=args.replace)
    return f"{summary(dataset)}\nwritten       {args.bundle}, version {manifest.version}"
