"""Writes tables of results as Markdown and as CSV, and US dollars for their cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

NO_VALUE = "–"
"""Text of a cell whose value is not known."""
SIMULATED_MARK = "(simulated)"
"""Text after US dollars that the simulator billed, so that they are not taken for money spent."""


@dataclass(frozen=True)
class Table:
    """Headings and rows of text; the first column is aligned to the left, the others to the right.

    Attributes:
        columns: headings.
        rows: rows of cells, with as many cells as there are headings.

    Raises:
        ValueError: a row is not as long as the heading.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

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
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        return "\n".join(_line(row, widths) for row in (cells[0], rule, *cells[1:])) + "\n"

    def csv(self) -> str:
        """Writes CSV as in RFC 4180, headings first."""
        stream = io.StringIO()
        csv.writer(stream).writerows((self.columns, *self.rows))
        return stream.getvalue()


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]
    return "| " + " | ".join(padded) + " |"


def dollars(amount: float | None, digits: int, *, simulated: bool) -> str:
    """Writes an amount for a cell, with a mark if it is simulated; a dash if the price is not known."""
    if amount is None:
        return NO_VALUE
    return f"{amount:.{digits}f} {SIMULATED_MARK}" if simulated else f"{amount:.{digits}f}"
