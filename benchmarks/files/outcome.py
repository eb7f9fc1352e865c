"""Says what became of one odd file, and what of that must not be."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_MEMORY = 300e6
"""Bytes that a file may take above a good one of its kind."""
MOST_SECONDS = 10.0
"""Seconds that a file may take above a good one of its kind, on a machine that does nothing else."""
TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Outcome:
    """What a program of ours did with one odd file.

    Attributes:
        kind: kind of file: the name of the table that the case is a row of.
        case: name of the case.
        outcome: ``read``, ``refused``, ``served``, ``held``, or what went wrong.
        sentence: what the program said about the file; empty if nothing.
        value: a figure that shows that the right thing was read; empty where there is none.
        seconds: seconds that the program took.
        memory: bytes of resident memory at its peak.
        problems: sentences about what must not be; empty for a good outcome.
    """

    kind: str
    case: str
    outcome: str
    sentence: str = ""
    value: str = ""
    seconds: float = 0.0
    memory: int = 0
    problems: tuple[str, ...] = field(default=())


def problems_of(output: str, seconds: float, memory: int, good: Outcome | None) -> tuple[str, ...]:
    """Returns what is wrong with any outcome: a traceback, too much memory, too much time.

    Args:
        output: everything that the program printed.
        seconds: seconds that it took.
        memory: bytes at its peak.
        good: outcome of a good file of the kind, which the limits are above; None for the good one itself.
    """
    found = ["a traceback"] if TRACEBACK in output else []
    if good is not None and memory - good.memory > MOST_MEMORY:
        found.append(f"{(memory - good.memory) / 1e6:.0f} MB more than a good file")
    if good is not None and seconds - good.seconds > MOST_SECONDS:
        found.append(f"{seconds - good.seconds:.0f} s more than a good file")
    return tuple(found)
