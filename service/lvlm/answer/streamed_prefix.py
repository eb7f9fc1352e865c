"""The beginning of an answer that is shown while the rest is written; the end does not take it back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from service.lvlm.answer.entries import Candidates
from service.lvlm.answer.parser import UnderWay, under_way
from service.lvlm.attempt import Attempt
from service.lvlm.calls.call_progress import CallProgress
from service.lvlm.contracts import JudgedAnswer, Outcome, ParsedAnswer

OnPlaced = Callable[[Sequence[int]], None]
"""Called with the rows that the LVLM has placed so far, best first, whenever there are more."""

READ_EACH = 512
"""Characters up to which a text is read anew with every piece that arrives. A longer one is read the more
seldom the longer it is: an answer without end must not be read anew for each of its pieces."""


@dataclass(frozen=True, slots=True)
class Kept:
    """How an answer ends for a request that was shown its beginning.

    Attributes:
        answer: the answer, with what was shown first.
        warning: sentence that says why the order is not the answer's own; None if it is.
    """

    answer: JudgedAnswer
    warning: str | None = None


class StreamedPrefix:
    """Shows a request what is certain of the answer under way, and keeps to it.

    Args:
        pool: rows as the prompt shows them.
        candidates: the same as an answer names them.
        most: largest number of items to show.
        on_placed: called with the rows.

    Attributes:
        order: positions in the pool that were shown.
    """

    def __init__(self, pool: Sequence[int], candidates: Candidates, most: int, on_placed: OnPlaced) -> None:
        self.order: tuple[int, ...] = ()
        self._pool = pool
        self._candidates = candidates
        self._most = most
        self._on_placed = on_placed
        self._attempt: Attempt | None = None
        self._read = UnderWay()
        self._skip = 0

    def look(self, progress: CallProgress) -> None:
        """Shows what has become certain since the last time."""
        attempt = progress.attempt
        if attempt is None or not attempt.answering:
            return
        if attempt is not self._attempt:
            self._attempt, self._read, self._skip = attempt, UnderWay(), 0
        if self._read.over or len(self.order) >= self._most:
            return
        if self._skip > 0:
            self._skip -= 1
            return
        # Looking means reading the whole text: after a long one the next pieces are skipped.
        text = attempt.text
        self._skip = len(text) // READ_EACH
        self._read = under_way(text, self._candidates)
        order = self._read.order[: self._most]
        # Only ever more of the same: another attempt may say something else.
        if len(order) > len(self.order) and order[: len(self.order)] == self.order:
            self.order = order
            self._on_placed([self._pool[position] for position in order])

    def keep(self, answer: JudgedAnswer, asked: int) -> Kept:
        """Puts what was shown before what the answer says.

        Args:
            answer: the answer as it was given in the end.
            asked: number of items asked for.
        """
        shown, parsed, good = self.order, answer.parsed, answer.outcome.good
        if parsed.order[: len(shown)] == shown:
            return Kept(answer)
        order = tuple(dict.fromkeys((*shown, *parsed.order)))
        # Of an answer that was not used no faults are reported.
        invented, duplicated = (parsed.invented, parsed.duplicated) if parsed.order else (0, 0)
        mixture = ParsedAnswer(order, invented, duplicated, max(0, asked - len(order)))
        instead = "another answer came" if good else "no other answer came"
        warning = (
            f"an answer broke off after its first {len(shown)} of {asked} items had been shown, "
            f"and {instead}: what had been shown stays first"
        )
        outcome = Outcome.REPAIRED if good else Outcome.PARTIAL
        return Kept(replace(answer, parsed=mixture, outcome=outcome), warning)
