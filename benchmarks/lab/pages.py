"""Prints a page of results, and writes it to a file atomically: a reader never sees half of it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.errors import BenchmarkError


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
    """Writes to a temporary name, then renames, so that a reader sees the old file or the whole new one.

    Raises:
        BenchmarkError: the folder cannot be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        # rename() within a folder is atomic (POSIX).
        temporary.replace(path)
    except OSError as error:
        raise BenchmarkError(f"cannot write {path}: {error.strerror}") from error
