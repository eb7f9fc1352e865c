"""Writes tables as Markdown, aligned so that they read well as plain text too, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

NO_VALUE = "–"
"""Text of a cell whose value is not known."""


@dataclass(frozen=True)
class Table:
    """Headings and rows of text.

    Attributes:
        columns: headings.
        rows: rows of cells, with as many cells as there are headings.
        words: numbers of the columns that are aligned to the left, from 0; the others are to the right.

    Raises:
        ValueError: a row is not as long as the heading.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: frozenset[int] = frozenset({0})

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{len(row)} cells under {len(self.columns)} headings: {row}")

    def markdown(self) -> str:
        """Writes a Markdown table, padded so that its columns are aligned in plain text too."""
        # A pipe inside a cell would end it (GitHub Flavored Markdown, section 4.10).
        cells = [tuple(cell.replace("|", "\\|") for cell in row) for row in (self.columns, *self.rows)]
        # The rule under a heading has three characters at least.
        widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(self.columns))]
        # A colon at the end aligns the column to the right.
        rule = ["-" * w if i in self.words else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
        return "\n".join(self._line(row, widths) for row in (cells[0], rule, *cells[1:])) + "\n"

    def csv(self) -> str:
        """Writes CSV as in RFC 4180, headings first."""
        stream = io.StringIO()
        csv.writer(stream).writerows((self.columns, *self.rows))
        return stream.getvalue()

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        pairs = enumerate(zip(cells, widths, strict=True))
        padded = (cell.ljust(width) if i in self.words else cell.rjust(width) for i, (cell, width) in pairs)
        return "| " + " | ".join(padded) + " |"
