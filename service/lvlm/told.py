"""What one watching request was told of an answer while it was written: the end does not take it back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.lvlm.answers import Answer, UnderWay, under_way
from service.lvlm.attempt import Attempt
from service.lvlm.contracts import Outcome
from service.lvlm.entries import Candidates
from service.lvlm.progress import Progress

Placed = Callable[[Sequence[int]], None]
"""Told the rows that the LVLM has placed so far, best first, whenever there are more."""

SPARED = 512
"""A text of fewer characters is looked at with every piece that arrives, a longer one the more seldom the
longer it is: an answer without end must not be read anew for each of its pieces."""


@dataclass(frozen=True, slots=True)
class Settled:
    """How an answer ends for a request that was told of its beginning.

    Attributes:
        warning: why the order is not the answer's; None if it is.
    """

    outcome: Outcome
    answer: Answer
    warning: str | None = None


class Told:
    """Tells a request what is certain of the answer under way, and keeps to it.

    Args:
        pool: rows as the prompt shows them.
        candidates: the same as an answer names them.
        most: tell of no more items than these.
        placed: told the rows.

    Attributes:
        order: positions in the pool that were told.
    """

    def __init__(self, pool: Sequence[int], candidates: Candidates, most: int, placed: Placed) -> None:
        self.order: tuple[int, ...] = ()
        self._pool = pool
        self._candidates = candidates
        self._most = most
        self._placed = placed
        self._attempt: Attempt | None = None
        self._seen = UnderWay()
        self._spare = 0

    def look(self, progress: Progress) -> None:
        """Tell what has become certain since the last time."""
        attempt = progress.attempt
        if attempt is None or not attempt.answering:
            return
        if attempt is not self._attempt:
            self._attempt, self._seen, self._spare = attempt, UnderWay(), 0
        if self._seen.over or len(self.order) >= self._most:
            return
        if self._spare > 0:
            self._spare -= 1
            return
        text = attempt.text
        self._spare = len(text) // SPARED
        self._seen = under_way(text, self._candidates)
        order = self._seen.order[: self._most]
        # Only ever more of the same: another attempt may say something else.
        if len(order) > len(self.order) and order[: len(self.order)] == self.order:
            self.order = order
            self._placed([self._pool[position] for position in order])

    def settle(self, outcome: Outcome, answer: Answer, asked: int) -> Settled:
        """Put what was told before what the answer says.

        Args:
            outcome: of the answer.
            answer: as it was given in the end.
            asked: how many items were asked for.
        """
        told = self.order
        if answer.order[: len(told)] == told:
            return Settled(outcome, answer)
        order = tuple(dict.fromkeys((*told, *answer.order)))
        invented, duplicated = (answer.invented, answer.duplicated) if answer.order else (0, 0)
        mixture = Answer(order, invented, duplicated, max(0, asked - len(order)))
        instead = "another answer came" if outcome.good else "no other answer came"
        warning = (
            f"an answer broke off after its first {len(told)} of {asked} items had been shown, "
            f"and {instead}: what had been shown stays first"
        )
        return Settled(Outcome.REPAIRED if outcome.good else Outcome.PARTIAL, mixture, warning)
