"""Detects that the text of a streamed answer is complete, for servers that never send a finish reason."""

from __future__ import annotations

from service.lvlm.providers.base import Call

FINISH_WAIT = 2.0
"""Seconds for which finish reason and usage are awaited once the text is complete; then the answer ends."""

_MAX_CHECKS = 16  # of one answer, each of which parses the whole text; afterwards it is never complete


class CompletenessCheck:
    """Collects an answer's text and tells when it is complete.

    Only the end of a JSON object can complete a text: an answer in another form may always go on.

    Args:
        call: call that is answered; without a ``complete`` function no text is ever complete.
    """

    def __init__(self, call: Call) -> None:
        self._complete = call.complete
        self._pieces: list[str] = []
        self._checks = 0

    def add(self, piece: str) -> bool:
        """Adds the next piece of the text, and tells whether the text is complete now."""
        if self._complete is None or self._checks >= _MAX_CHECKS:
            return False
        self._pieces.append(piece)
        if "}" not in piece[-8:]:  # a brace, perhaps with a code fence behind it
            return False
        self._checks += 1
        return self._complete("".join(self._pieces))
