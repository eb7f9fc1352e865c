"""Writes US dollars and counts for the cells of tables of results."""

from __future__ import annotations

from models.printed_table import NO_VALUE

SIMULATED_MARK = "(simulated)"
"""Text after US dollars that the simulator billed, so that they are not taken for money spent."""


def counted(number: int, noun: str) -> str:
    """Writes a number with what it counts: ``1 user``, ``1,200 users``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def dollars(amount: float | None, digits: int, *, simulated: bool) -> str:
    """Writes an amount for a cell, with a mark if it is simulated; a dash if the price is not known."""
    if amount is None:
        return NO_VALUE
    return f"{amount:.{digits}f} {SIMULATED_MARK}" if simulated else f"{amount:.{digits}f}"
