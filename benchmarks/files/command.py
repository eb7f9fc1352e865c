"""Command ``files``: what odd, damaged and hostile files become: case, outcome, sentence.

The files are made by the programs of a folder of faults: small data sets with one oddity each, odd pictures,
broken copies of a good bundle, and bundles that were meant ill. It fails if anything ends in a traceback,
takes 300 MB or ten seconds more than a good file, or is read as something else than it holds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from benchmarks.errors import BenchmarkError
from benchmarks.files import bundles, data_sets
from benchmarks.files.outcome import Outcome
from benchmarks.lab.options import add_bundle_argument
from benchmarks.lab.pages import add_markdown_argument, publish
from models import machine
from models.printed_table import Table

SENTENCE_CHARACTERS = 220
"""Characters of a sentence that the table shows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_bundle_argument(parser)
    parser.add_argument(
        "--faults", type=Path, required=True, help="folder of the programs that make odd files"
    )
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Tries all files and prints a page; returns the exit code, 1 if anything is not as it must be.

    Raises:
        BenchmarkError: the folder of faults is missing, or a good file cannot be read.
    """
    if not arguments.faults.is_dir():
        raise BenchmarkError(f"{arguments.faults} is no folder: name the folder of faults with --faults")
    tried = chain(
        data_sets.read_all(arguments.faults),
        bundles.serve_all(arguments.faults, arguments.bundle),
        bundles.attack(arguments.faults),
    )
    outcomes = list(tqdm(tried, unit="file", disable=None))
    publish(page(outcomes, arguments.command_line), arguments.markdown)
    return int(any(outcome.problems for outcome in outcomes))


def page(outcomes: Sequence[Outcome], command: str) -> str:
    """Writes the page: a table for each kind of file, and what is not as it must be."""
    parts = [f"## Odd files\n\n{machine.describe(machine.facts())}- command: `{command}`\n"]
    for kind in dict.fromkeys(outcome.kind for outcome in outcomes):
        rows = tuple(
            (each.case, each.outcome, each.value, _shortened("; ".join((*each.problems, each.sentence))))
            for each in outcomes
            if each.kind == kind
        )
        table = Table(("case", "outcome", "read as", "sentence"), rows, words=frozenset(range(4)))
        parts.append(f"### {kind}\n\n{table.markdown()}")
    wrong = [f"{each.kind}, {each.case}: {'; '.join(each.problems)}" for each in outcomes if each.problems]
    parts.append(
        f"{len(outcomes)} cases, not as they must be: {len(wrong)}\n"
        + "".join(f"- {line}\n" for line in wrong)
    )
    return "\n".join(parts)


def _shortened(sentence: str) -> str:
    text = " ".join(sentence.split()).strip("; ")
    return text if len(text) <= SENTENCE_CHARACTERS else text[:SENTENCE_CHARACTERS] + "…"
