"""Says how many records may be left out of what was read (standard library only)."""

from __future__ import annotations

DEFAULT_LIMIT = 0.01
"""Share of the records of one kind that may be left out, unless a command is told otherwise."""

ALWAYS_BORNE = 10
"""Records of one kind that may be left out by default even where they are more than ``DEFAULT_LIMIT``, unless
they are more than a fifth of all: in a small data set a single odd record is more than 1 %."""


def borne(read: int) -> float:
    """Returns how many of ``read`` records of one kind may be left out by default."""
    return max(DEFAULT_LIMIT * read, min(ALWAYS_BORNE, read // 5))
