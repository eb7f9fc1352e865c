"""How US dollars are written, so that a rehearsal's are never read as spent."""

from __future__ import annotations

from benchmarks.tables import UNKNOWN

SIMULATED = "(simulated)"


def dollars(amount: float | None, digits: int, *, simulated: bool) -> str:
    """An amount for a table; marked where the simulator answered, a dash where a price is not known."""
    if amount is None:
        return UNKNOWN
    return f"{amount:.{digits}f} {SIMULATED}" if simulated else f"{amount:.{digits}f}"
