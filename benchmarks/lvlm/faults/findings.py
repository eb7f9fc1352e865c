"""Evaluates a run of the fault matrix: finds what is wrong, and computes the figures of its tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from benchmarks.lab.simulator_control import LedgerRow
from benchmarks.lab.stats import median
from benchmarks.lvlm.faults.cells import MODES, WIRES, FaultCell
from benchmarks.lvlm.faults.checks import answer_problems, attempt_problems, refusal_problems, repair_problems
from benchmarks.lvlm.faults.ledgers import (
    NO_CALLS,
    TOKEN_KINDS,
    CallTotals,
    LedgerComparison,
    refused_field,
    totals_problems,
    without_usage,
)
from benchmarks.lvlm.faults.matrix import Observed


class Findings:
    """Compares the answers, the service's metrics and the simulator's ledger of one run.

    Attributes:
        problems: sentences about everything that is wrong, cell by cell.
        comparisons: totals of the service and of the simulator, by wire format and mode.
    """

    def __init__(self, observed: Observed) -> None:
        self._asked = observed.asked
        self._cells = observed.cells
        self._metrics = observed.metrics
        self._rows: defaultdict[str, list[LedgerRow]] = defaultdict(list)
        self._refused: Counter[str] = Counter()
        for row in observed.ledger:
            # The call without the field follows at once, and is the one that counts as an attempt.
            if refused_field(row):
                self._refused[row["model"]] += 1
            else:
                self._rows[row["model"]].append(row)
        self.problems = [*self._unasked_calls(), *self._all_cell_problems(), *self._fallback_problems()]
        self.comparisons = {(wire, mode): self._compare(wire, mode) for wire in WIRES for mode in MODES}

    def attempts(self, fault: str) -> str:
        """Returns the attempts per answer as text: the smallest and the largest mean of a cell."""
        cells = [cell for cell in self._cells if cell.fault == fault]
        means = [len(self._rows[cell.model]) / len(self._asked[cell]) for cell in cells]
        low, high = f"{min(means):.1f}", f"{max(means):.1f}"
        return low if low == high else f"{low}–{high}"

    def lateness(self, fault: str) -> float:
        """Returns the milliseconds past the deadline, the worst cell's median; negative is early."""
        return max(
            1000 * (median([one.reply.seconds for one in self._asked[cell]]) - cell.deadline)
            for cell in self._cells
            if cell.fault == fault
        )

    def outcomes(self, fault: str, wire: str, mode: str) -> str:
        """Returns all outcomes of a fault on one wire format in one mode, as text."""
        found = Counter(
            str(one.reply.body.get("outcome"))
            for cell in self._cells
            if (cell.fault, cell.wire, cell.mode) == (fault, wire, mode)
            for one in self._asked[cell]
        )
        return ", ".join(found)

    def _unasked_calls(self) -> Iterator[str]:
        # The ledger was cleared after the warm-up, so it has no other calls.
        for model in self._rows.keys() - {cell.model for cell in self._cells}:
            yield f"{model}: {len(self._rows[model])} calls that no cell asked for"

    def _all_cell_problems(self) -> Iterator[str]:
        for cell in self._cells:
            for sentence in self._cell_problems(cell):
                yield f"{cell.model}: {sentence}"

    def _cell_problems(self, cell: FaultCell) -> Iterator[str]:
        asked, rows = self._asked[cell], self._rows[cell.model]
        yield from answer_problems(cell, asked)
        yield from attempt_problems(
            cell, len(asked), rows, sum(self._sums(cell, "retries", "reason").values())
        )
        yield from refusal_problems(cell, self._refused[cell.model])
        yield from repair_problems(cell, asked, self._sums(cell, "repairs", "kind"))
        yield from self._totals_problems(cell)

    def _totals_problems(self, cell: FaultCell) -> Iterator[str]:
        estimated = self._sums(cell, "estimated_tokens", "direction")
        return totals_problems(self._ours(cell), estimated, self._rows[cell.model])

    def _fallback_problems(self) -> Iterator[str]:
        """Compares the service's counter of fallbacks with the answers."""
        for mode in MODES:
            bodies = [one.reply.body for c in self._cells if c.mode == mode for one in self._asked[c]]
            fallbacks = Counter(
                b.get("outcome") for b in bodies if b.get("outcome") not in ("ok", "repaired")
            )
            counted = {
                dict(labels)["reason"]: value
                for (name, labels), value in self._metrics[mode].items()
                if name == "msr_fallbacks_total" and value
            }
            if fallbacks != counted:
                yield f"{mode}: fallbacks answered {dict(fallbacks)}, counted {counted}"

    def _compare(self, wire: str, mode: str) -> LedgerComparison:
        cells = [cell for cell in self._cells if (cell.wire, cell.mode) == (wire, mode)]
        # Whole cells are compared, since the metrics have no single calls.
        of_cut = [cell for cell in cells if without_usage(self._rows[cell.model])]
        equal = not any(sentence for cell in cells for sentence in self._totals_problems(cell))
        return LedgerComparison(*self._both(cells), equal, self._both(of_cut))

    def _both(self, cells: Sequence[FaultCell]) -> tuple[CallTotals, CallTotals]:
        """Adds up cells: the service's totals, and the simulator's."""
        theirs = (CallTotals.of(self._rows[cell.model]) for cell in cells)
        return sum(map(self._ours, cells), NO_CALLS), sum(theirs, NO_CALLS)

    def _ours(self, cell: FaultCell) -> CallTotals:
        calls = self._sums(cell, "call_duration_seconds", "provider", sample="count")
        tokens = self._sums(cell, "tokens", "direction")
        dollars = self._sums(cell, "cost_usd", "provider")
        by_kind = {kind: tokens.get(kind, 0.0) for kind in TOKEN_KINDS}
        return CallTotals(sum(calls.values()), by_kind, sum(dollars.values()))

    def _sums(self, cell: FaultCell, metric: str, label: str, sample: str = "total") -> dict[str, float]:
        """Adds up a metric of the LVLM stage in a cell, by the values of a label."""
        sums: defaultdict[str, float] = defaultdict(float)
        for (name, labels), value in self._metrics[cell.mode].items():
            its = dict(labels)
            # Histograms have _count, counters _total.
            here = name == f"msr_lvlm_{metric}_{sample}"
            # A cell's model is its own. Dollars of simulated calls have the label provider="simulator".
            if here and its["model"] == cell.model and its["provider"] in (cell.wire, "simulator"):
                sums[its[label]] += value
        return dict(sums)
