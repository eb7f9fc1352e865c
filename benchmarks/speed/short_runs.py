"""Lists the short runs by which two commits are compared, and reads their figures from the printed page.

The page for readers is parsed, since older commits print it too and have no other format. A figure is found
by its column and by other cells of its row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.errors import BenchmarkError


@dataclass(frozen=True)
class Figure:
    """One number of a page that is compared.

    Attributes:
        name: name of the figure in the table of the comparison.
        row: patterns that cells of its row match as a whole, by column.
        column: heading of its column; a spread may follow the number in the cell.
        more_is_better: whether it is a rate, and not a time.
    """

    name: str
    row: Mapping[str, str]
    column: str
    more_is_better: bool = False


@dataclass(frozen=True)
class ShortRun:
    """One run of a benchmark, short enough to be repeated.

    Attributes:
        options: command line options, which older commits must accept too.
        figures: figures that are read from its page.
    """

    options: tuple[str, ...]
    figures: tuple[Figure, ...]


# Each run takes some seconds, so that 15 pairs of all of them take a quarter of an hour.
SHORT_RUNS = {
    "http": ShortRun(
        ("--connections", "32", "--rounds", "1", "--seconds", "3"),
        (
            Figure(
                "http: requests/s at 32 connections",
                {"server": "service", "connections": "32"},
                "requests/s",
                more_is_better=True,
            ),
        ),
    ),
    "candidates": ShortRun(
        ("--random", "--rounds", "3", "--users", "20"),
        (Figure("candidates: ms per user", {"way": "bundle: .*"}, "ms per user"),),
    ),
    "stage": ShortRun(
        ("--rounds", "1", "--users", "40", "--strategies", "s3,s5"),
        tuple(
            Figure(f"stage: own ms, {cell}", {"strategy, wire": cell}, "own ms")
            for cell in (
                "s3, simulator",
                "s3, simulator-anthropic",
                "s5, simulator",
                "s5, simulator-anthropic",
            )
        ),
    ),
}
"""Short run of each command that is compared, by the command's public name."""


def read(page: str, figure: Figure) -> float:
    """Finds a figure in a page.

    Raises:
        BenchmarkError: the page has no such row and column, or something else than a positive number there.
    """
    for row in _rows(page):
        named = all(re.fullmatch(pattern, row.get(column, "")) for column, pattern in figure.row.items())
        # match, not fullmatch: a spread may follow the number in its cell.
        if named and (found := re.match(r"\d+(\.\d+)?", row.get(figure.column, ""))) and float(found[0]) > 0:
            return float(found[0])
    raise BenchmarkError(f"the page shows no {figure.column!r} in the row {dict(figure.row)}")


def _rows(page: str) -> Iterator[dict[str, str]]:
    """Yields the rows of all Markdown tables, by heading."""
    heading: list[str] = []
    for line in page.splitlines():
        if not line.startswith("|"):
            # A line without a pipe ends the table.
            heading = []
            continue
        # A pipe after a backslash belongs to the cell.
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        if not heading:
            heading = cells
        elif not all(re.fullmatch(":?-+:?", cell) for cell in cells):
            # The second line of a table is the rule.
            yield dict(zip(heading, cells, strict=False))
