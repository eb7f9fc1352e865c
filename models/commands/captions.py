"""Write a bundle's captions into the item2side.json of the data it was made from.

Amazon Review Plus publishes its captions in this form, and `python -m models data` reads it.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from models.atomic import write_text
from models.bundle.catalogue import read_catalogue
from models.data import amazon_plus


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the options of the command."""
    parser.add_argument(
        "--bundle", type=Path, required=True, metavar="FOLDER", help="the bundle with captions"
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FOLDER", help="the Amazon Review Plus folder"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the item2side.json to write"
    )


def run(args: Namespace) -> str:
    """Runs the command.

    Returns:
        The lines to print: what was written.
    """
    catalogue = read_catalogue(args.bundle)
    # From rows, which are the bundle's own, to public ids, which the data set shares.
    captions = {
        captioner: {catalogue.items[row].item_id: caption for row, caption in by_row.items()}
        for captioner, by_row in catalogue.captions.items()
    }
    side = amazon_plus.with_captions(args.data, captions)
    write_text(args.output, json.dumps(side, ensure_ascii=False))
    counts = ", ".join(f"{name} {len(by_item):,}" for name, by_item in captions.items()) or "none"
    return f"captions      {counts}\nwritten       {args.output}"
