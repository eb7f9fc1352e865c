"""Shows the first items of an answer while the rest is streamed, and keeps them first in the final order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from service.lvlm.answer.entries import Candidates
from service.lvlm.answer.parser import CertainPrefix, certain_prefix
from service.lvlm.calls.call_progress import CallProgress
from service.lvlm.contracts import JudgedAnswer, Outcome, ParsedAnswer
from service.lvlm.provider_attempt import Attempt

OnPrefix = Callable[[Sequence[int]], None]
"""Callback that gets all item rows that the LVLM has ranked so far, best first, whenever there are more."""

CHARACTERS_PER_SKIP = 512
"""Characters of a text for which one of the following pieces is not looked at.

A look parses the whole text, so a shorter text is parsed with every piece, and a longer one less often: an
answer without end would otherwise take time that grows with the square of its length.
"""


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    """The final answer to a request that was shown the beginning of one.

    Attributes:
        answer: the answer, with the items that were shown in front.
        warning: sentence for the client that says why the order is not the answer's own; None if it is.
    """

    answer: JudgedAnswer
    warning: str | None = None


class StreamedPrefix:
    """Shows one request the items of its streamed answer as soon as no later text can change them.

    Args:
        pool: item rows in the order in which the prompt shows them.
        candidates: the same items as an answer names them.
        most: number of items to show at most; at least 1.
        on_prefix: callback that is given the rows.

    Attributes:
        order: pool positions that were shown, best first; it only ever grows at its end.
    """

    def __init__(self, pool: Sequence[int], candidates: Candidates, most: int, on_prefix: OnPrefix) -> None:
        self.order: tuple[int, ...] = ()
        self._pool = pool
        self._candidates = candidates
        self._most = most
        self._on_prefix = on_prefix
        self._attempt: Attempt | None = None  # the attempt whose text was read last
        self._prefix = CertainPrefix()  # of that attempt
        self._skip = 0  # pieces of that attempt that are not looked at

    def update(self, progress: CallProgress) -> None:
        """Shows what has become certain since the last call; called with every piece that arrives."""
        attempt = progress.attempt
        if attempt is None or not attempt.answering:
            return
        if attempt is not self._attempt:
            self._attempt, self._prefix, self._skip = attempt, CertainPrefix(), 0
        if self._prefix.final or len(self.order) >= self._most:
            return
        if self._skip > 0:
            self._skip -= 1
            return
        text = attempt.text
        self._skip = len(text) // CHARACTERS_PER_SKIP
        self._prefix = certain_prefix(text, self._candidates)
        order = self._prefix.order[: self._most]
        # A retry or a hedge may answer otherwise: its items are shown only if they continue what was shown.
        if len(order) > len(self.order) and order[: len(self.order)] == self.order:
            self.order = order
            self._on_prefix([self._pool[position] for position in order])

    def final_answer(self, answer: JudgedAnswer, asked: int) -> FinalAnswer:
        """Returns the answer with the items that were shown in front, in the order shown.

        Args:
            answer: the answer that the request is given in the end, perhaps of another attempt.
            asked: number of items that the prompt asked for.
        """
        shown, parsed, good = self.order, answer.parsed, answer.outcome.good
        if parsed.order[: len(shown)] == shown:
            return FinalAnswer(answer)
        order = tuple(dict.fromkeys((*shown, *parsed.order)))
        # An answer that gave no order adds nothing to the result, so its faults are not reported.
        invented, duplicated = (parsed.invented, parsed.duplicated) if parsed.order else (0, 0)
        mixture = ParsedAnswer(order, invented, duplicated, max(0, asked - len(order)))
        instead = "another answer came" if good else "no other answer came"
        warning = (
            f"an answer broke off after its first {len(shown)} of {asked} items had been shown, "
            f"and {instead}: what had been shown stays first"
        )
        outcome = Outcome.REPAIRED if good else Outcome.PARTIAL
        return FinalAnswer(replace(answer, parsed=mixture, outcome=outcome), warning)
