"""Compares the calls, tokens and dollars of the service's metrics with those of the simulator's ledger.

For a call whose usage arrived, both must be equal to the token; for another one the service estimates, and
marks the estimate. Pages call metrics and ledger books.
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
"""Field of the ledger, by kind of tokens."""


@dataclass(frozen=True)
class CallTotals:
    """Sums over calls, from the service's metrics or the simulator's ledger.

    Attributes:
        calls: number of calls.
        tokens: number of tokens by kind: input, output, cached_input and image.
        dollars: cost in US dollars.
    """

    calls: float
    tokens: Mapping[str, float]
    dollars: float

    @classmethod
    def of(cls, rows: Iterable[LedgerRow]) -> CallTotals:
        """Adds up rows of the simulator's ledger; tokens of calls that are not billed are left out."""
        rows = list(rows)
        # A call that was refused or broke before any work costs nothing.
        billed = [row for row in rows if row["billed_input_tokens"]]
        tokens = {kind: float(sum(row[name] for row in billed)) for kind, name in _BILLED.items()}
        return cls(float(len(rows)), tokens, sum(row["cost_usd"] for row in rows))

    def __add__(self, other: CallTotals) -> CallTotals:
        tokens = {kind: self.tokens[kind] + other.tokens[kind] for kind in TOKEN_KINDS}
        return CallTotals(self.calls + other.calls, tokens, self.dollars + other.dollars)


NO_CALLS = CallTotals(0.0, dict.fromkeys(TOKEN_KINDS, 0.0), 0.0)


def refused_field(row: LedgerRow) -> bool:
    """Returns whether a call was refused for a field and then repeated without it: both are one attempt."""
    return bool(row["fault"] == NO_SCHEMA and row["outcome"] == "rejected")


def without_usage(rows: Iterable[LedgerRow]) -> list[LedgerRow]:
    """Selects the calls that are billed although their usage never reached the service."""
    return [row for row in rows if row["billed_input_tokens"] and not row["usage_sent"]]


def totals_problems(
    ours: CallTotals, estimated: Mapping[str, float], rows: Sequence[LedgerRow]
) -> Iterator[str]:
    """Compares the service's totals of a cell with the simulator's; yields a sentence for each difference.

    Args:
        ours: totals of the service's metrics, estimates included.
        estimated: tokens by kind that the service estimated.
        rows: calls of the cell in the simulator's ledger.
    """
    if ours.calls != len(rows):
        yield f"we count {ours.calls:g} calls, the simulator {len(rows)}"
    unreported = without_usage(rows)
    if bool(unreported) != any(estimated.values()):
        yield f"usage did not arrive for {len(unreported)} calls, and we estimate {dict(estimated)}"
    reported = CallTotals.of(row for row in rows if row["usage_sent"])
    # The service's metrics hold reported and estimated tokens together, and the estimated ones once more.
    ours_reported = {kind: ours.tokens[kind] - estimated.get(kind, 0.0) for kind in TOKEN_KINDS}
    if ours_reported != reported.tokens:
        yield f"told tokens are {ours_reported} in our books, {dict(reported.tokens)} in the simulator's"
    if (
        not unreported and abs(ours.dollars - reported.dollars) > 1e-9
    ):  # what adding floats in another order may make
        yield f"US dollars are {ours.dollars:.9f} in our books, {reported.dollars:.9f} in the simulator's"


@dataclass(frozen=True)
class LedgerComparison:
    """The totals of the service and of the simulator, for one wire format in one mode.

    Attributes:
        ours: totals of the service's metrics.
        theirs: totals of the simulator's ledger.
        equal: whether they are equal for all calls whose usage arrived.
        cut: both totals, of the cells in which the usage of some call never arrived.
    """

    ours: CallTotals
    theirs: CallTotals
    equal: bool
    cut: tuple[CallTotals, CallTotals]
