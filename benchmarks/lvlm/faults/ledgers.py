"""What calls took: our books beside the simulator's, which must be equal to the token where usage arrived."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.lab.simulator_control import LedgerRow
from service.simulator.faults import NO_SCHEMA

BOOKS = ("input", "output", "cached_input", "image")
_BILLED = {
    "input": "billed_input_tokens",
    "output": "billed_output_tokens",
    "cached_input": "cached_input_tokens",
    "image": "image_tokens",
}


@dataclass(frozen=True)
class Books:
    """What calls took, as one side has it.

    Attributes:
        tokens: by kind: input, output, cached_input and image.
        dollars: US dollars.
    """

    calls: float
    tokens: Mapping[str, float]
    dollars: float

    @classmethod
    def of(cls, rows: Iterable[LedgerRow]) -> Books:
        """The simulator's books of some of its calls."""
        rows = list(rows)
        billed = [row for row in rows if row["billed_input_tokens"]]
        tokens = {kind: float(sum(row[name] for row in billed)) for kind, name in _BILLED.items()}
        return cls(float(len(rows)), tokens, sum(row["cost_usd"] for row in rows))

    def __add__(self, other: Books) -> Books:
        tokens = {kind: self.tokens[kind] + other.tokens[kind] for kind in BOOKS}
        return Books(self.calls + other.calls, tokens, self.dollars + other.dollars)


NOTHING = Books(0.0, dict.fromkeys(BOOKS, 0.0), 0.0)


def refused_field(row: LedgerRow) -> bool:
    """Whether a call was refused for a field that is then left out, which is no attempt of its own."""
    return bool(row["fault"] == NO_SCHEMA and row["outcome"] == "rejected")


def cut(rows: Iterable[LedgerRow]) -> list[LedgerRow]:
    """Calls that are billed although their usage never went out."""
    return [row for row in rows if row["billed_input_tokens"] and not row["usage_sent"]]


def wrong_books(ours: Books, estimated: Mapping[str, float], rows: Sequence[LedgerRow]) -> Iterator[str]:
    """Our books of a cell beside the simulator's: equal to the token wherever usage arrived.

    Args:
        ours: all of it.
        estimated: our tokens by kind that nobody told us.
        rows: of the ledger.
    """
    if ours.calls != len(rows):
        yield f"we count {ours.calls:g} calls, the simulator {len(rows)}"
    untold = cut(rows)
    if bool(untold) != any(estimated.values()):
        yield f"usage did not arrive for {len(untold)} calls, and we estimate {dict(estimated)}"
    told = Books.of(row for row in rows if row["usage_sent"])
    ours_told = {kind: ours.tokens[kind] - estimated.get(kind, 0.0) for kind in BOOKS}
    if ours_told != told.tokens:
        yield f"told tokens are {ours_told} in our books, {dict(told.tokens)} in the simulator's"
    if not untold and abs(ours.dollars - told.dollars) > 1e-9:
        yield f"US dollars are {ours.dollars:.9f} in our books, {told.dollars:.9f} in the simulator's"


@dataclass(frozen=True)
class Side:
    """Our books and the simulator's, of one wire in one mode.

    Attributes:
        equal: whether they are the same wherever usage arrived.
        cut: of the cells in which some usage never arrived: ours and the simulator's.
    """

    ours: Books
    theirs: Books
    equal: bool
    cut: tuple[Books, Books]
