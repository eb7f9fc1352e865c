"""Compares what calls took by the service's metrics and by the simulator's ledger.

Where a call's usage arrived, both must be equal to the token; otherwise the service estimates, and says so.
Pages call both sides books.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.lab.simulator_control import LedgerRow
from service.simulator.faults import NO_SCHEMA

TOKEN_KINDS = ("input", "output", "cached_input", "image")
"""Kinds of tokens, as the service's metrics label them."""
_BILLED = {
    "input": "billed_input_tokens",
    "output": "billed_output_tokens",
    "cached_input": "cached_input_tokens",
    "image": "image_tokens",
}
"""Kind of tokens -> the ledger's field."""


@dataclass(frozen=True)
class Totals:
    """What calls took, as the service's metrics or the simulator's ledger have it.

    Attributes:
        calls: number of calls.
        tokens: tokens by kind: input, output, cached_input and image.
        dollars: US dollars.
    """

    calls: float
    tokens: Mapping[str, float]
    dollars: float

    @classmethod
    def of(cls, rows: Iterable[LedgerRow]) -> Totals:
        """Adds up rows of the simulator's ledger; tokens of calls that are not billed are left out."""
        rows = list(rows)
        # A call that was refused or broke before any work costs nothing.
        billed = [row for row in rows if row["billed_input_tokens"]]
        tokens = {kind: float(sum(row[name] for row in billed)) for kind, name in _BILLED.items()}
        return cls(float(len(rows)), tokens, sum(row["cost_usd"] for row in rows))

    def __add__(self, other: Totals) -> Totals:
        tokens = {kind: self.tokens[kind] + other.tokens[kind] for kind in TOKEN_KINDS}
        return Totals(self.calls + other.calls, tokens, self.dollars + other.dollars)


NO_CALLS = Totals(0.0, dict.fromkeys(TOKEN_KINDS, 0.0), 0.0)


def refused_field(row: LedgerRow) -> bool:
    """Whether a call was refused for a field and then made without it, which is no attempt of its own."""
    return bool(row["fault"] == NO_SCHEMA and row["outcome"] == "rejected")


def without_usage(rows: Iterable[LedgerRow]) -> list[LedgerRow]:
    """Selects the calls that are billed although the service never got their usage."""
    return [row for row in rows if row["billed_input_tokens"] and not row["usage_sent"]]


def totals_problems(ours: Totals, estimated: Mapping[str, float], rows: Sequence[LedgerRow]) -> Iterator[str]:
    """Compares the service's totals of a cell with the simulator's; yields a sentence for each difference.

    Args:
        ours: totals by the service's metrics, estimates included.
        estimated: tokens by kind that the service estimated.
        rows: the cell's calls in the simulator's ledger.
    """
    if ours.calls != len(rows):
        yield f"we count {ours.calls:g} calls, the simulator {len(rows)}"
    untold = without_usage(rows)
    if bool(untold) != any(estimated.values()):
        yield f"usage did not arrive for {len(untold)} calls, and we estimate {dict(estimated)}"
    told = Totals.of(row for row in rows if row["usage_sent"])
    # The service's metrics hold told and estimated tokens together, and the estimated ones once more.
    ours_told = {kind: ours.tokens[kind] - estimated.get(kind, 0.0) for kind in TOKEN_KINDS}
    if ours_told != told.tokens:
        yield f"told tokens are {ours_told} in our books, {dict(told.tokens)} in the simulator's"
    if not untold and abs(ours.dollars - told.dollars) > 1e-9:  # what adding floats in another order may make
        yield f"US dollars are {ours.dollars:.9f} in our books, {told.dollars:.9f} in the simulator's"


@dataclass(frozen=True)
class Comparison:
    """The service's totals and the simulator's, of one wire format in one mode.

    Attributes:
        ours: totals by the service's metrics.
        theirs: totals by the simulator's ledger.
        equal: whether they are the same wherever usage arrived.
        cut: both totals of the cells in which some usage never arrived.
    """

    ours: Totals
    theirs: Totals
    equal: bool
    cut: tuple[Totals, Totals]
