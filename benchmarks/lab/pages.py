"""Prints a page of results, and writes it to a file atomically: a reader never sees half of it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.errors import BenchmarkError
from models import atomic
from models.contracts.one_writer import BusyError
from models.errors import WriteError


def add_markdown_argument(parser: argparse.ArgumentParser) -> None:
    """Declares the option for a file that the page is written to, besides standard output."""
    parser.add_argument("--markdown", type=Path, help="also write the page to this file")


def publish(page: str, markdown: Path | None) -> None:
    """Prints a page, and writes it to the file of ``--markdown`` where one is given.

    Raises:
        BenchmarkError: the folder cannot be written.
    """
    sys.stdout.write(page)
    if markdown:
        write_text(markdown, page)


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all, and its folder if that is missing.

    Raises:
        BenchmarkError: it cannot be written, or another process is writing it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(path, text)
    except OSError as error:
        raise BenchmarkError(f"cannot write {path}: {error.strerror}") from error
    except (WriteError, BusyError) as error:
        raise BenchmarkError(str(error)) from error
