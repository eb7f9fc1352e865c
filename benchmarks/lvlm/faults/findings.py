"""Judges what a run of the fault matrix left behind: what is wrong, and the figures of its tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from benchmarks.lab.simulator_control import LedgerRow
from benchmarks.lab.stats import median
from benchmarks.lvlm.faults.cells import MODES, WIRES, Cell
from benchmarks.lvlm.faults.checks import wrong_answers, wrong_attempts, wrong_refusals, wrong_repairs
from benchmarks.lvlm.faults.ledgers import BOOKS, NOTHING, Books, Side, cut, refused_field, wrong_books
from benchmarks.lvlm.faults.matrix import Observed


class Findings:
    """The answers, the service's metrics and the simulator's ledger of one run, held against each other.

    Attributes:
        wrong: a sentence for everything that is not as it must be, by cell.
        sides: our books and the simulator's, by wire and mode.
    """

    def __init__(self, observed: Observed) -> None:
        self._asked = observed.asked
        self._cells = observed.cells
        self._metrics = observed.metrics
        self._rows: defaultdict[str, list[LedgerRow]] = defaultdict(list)
        self._refused: Counter[str] = Counter()
        for row in observed.ledger:
            if refused_field(row):
                self._refused[row["model"]] += 1
            else:
                self._rows[row["model"]].append(row)
        self.wrong = [*self._strangers(), *self._wrong_cells(), *self._wrong_fallbacks()]
        self.sides = {(wire, mode): self._side(wire, mode) for wire in WIRES for mode in MODES}

    def attempts(self, fault: str) -> str:
        """Attempts per answer: the means of the cell with the fewest and of the one with the most."""
        cells = [cell for cell in self._cells if cell.fault == fault]
        means = [len(self._rows[cell.model]) / len(self._asked[cell]) for cell in cells]
        low, high = f"{min(means):.1f}", f"{max(means):.1f}"
        return low if low == high else f"{low}–{high}"

    def lateness(self, fault: str) -> float:
        """Milliseconds past the deadline: the worst cell's median over rounds; negative is early."""
        return max(
            1000 * (median([one.reply.seconds for one in self._asked[cell]]) - cell.deadline)
            for cell in self._cells
            if cell.fault == fault
        )

    def outcomes(self, fault: str, wire: str, mode: str) -> str:
        """All outcomes of a fault on one wire in one mode."""
        found = Counter(
            str(one.reply.body.get("outcome"))
            for cell in self._cells
            if (cell.fault, cell.wire, cell.mode) == (fault, wire, mode)
            for one in self._asked[cell]
        )
        return ", ".join(found)

    def _strangers(self) -> Iterator[str]:
        for model in self._rows.keys() - {cell.model for cell in self._cells}:
            yield f"{model}: {len(self._rows[model])} calls that no cell asked for"

    def _wrong_cells(self) -> Iterator[str]:
        for cell in self._cells:
            for sentence in self._wrong_cell(cell):
                yield f"{cell.model}: {sentence}"

    def _wrong_cell(self, cell: Cell) -> Iterator[str]:
        asked, rows = self._asked[cell], self._rows[cell.model]
        yield from wrong_answers(cell, asked)
        yield from wrong_attempts(cell, len(asked), rows, sum(self._sums(cell, "retries", "reason").values()))
        yield from wrong_refusals(cell, self._refused[cell.model])
        yield from wrong_repairs(cell, asked, self._sums(cell, "repairs", "kind"))
        yield from self._wrong_books(cell)

    def _wrong_books(self, cell: Cell) -> Iterator[str]:
        estimated = self._sums(cell, "estimated_tokens", "direction")
        return wrong_books(self._ours(cell), estimated, self._rows[cell.model])

    def _wrong_fallbacks(self) -> Iterator[str]:
        """The counter of fallbacks says what the answers said."""
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

    def _side(self, wire: str, mode: str) -> Side:
        cells = [cell for cell in self._cells if (cell.wire, cell.mode) == (wire, mode)]
        of_cut = [cell for cell in cells if cut(self._rows[cell.model])]
        equal = not any(sentence for cell in cells for sentence in self._wrong_books(cell))
        return Side(*self._both(cells), equal, self._both(of_cut))

    def _both(self, cells: Sequence[Cell]) -> tuple[Books, Books]:
        """Our books of these cells, and the simulator's."""
        theirs = (Books.of(self._rows[cell.model]) for cell in cells)
        return sum(map(self._ours, cells), NOTHING), sum(theirs, NOTHING)

    def _ours(self, cell: Cell) -> Books:
        calls = self._sums(cell, "call_duration_seconds", "provider", sample="count")
        tokens = self._sums(cell, "tokens", "direction")
        dollars = self._sums(cell, "cost_usd", "provider")
        by_kind = {kind: tokens.get(kind, 0.0) for kind in BOOKS}
        return Books(sum(calls.values()), by_kind, sum(dollars.values()))

    def _sums(self, cell: Cell, metric: str, label: str, sample: str = "total") -> dict[str, float]:
        """What a metric of the LVLM stage came to in a cell, by a label."""
        sums: defaultdict[str, float] = defaultdict(float)
        for (name, labels), value in self._metrics[cell.mode].items():
            its = dict(labels)
            here = name == f"msr_lvlm_{metric}_{sample}"
            # A cell's model is its own; dollars that the simulator cost stand under its name.
            if here and its["model"] == cell.model and its["provider"] in (cell.wire, "simulator"):
                sums[its[label]] += value
        return dict(sums)
