"""Whether the text of an answer under way is complete: a server that never says so is not waited for."""

from __future__ import annotations

from service.lvlm.providers.base import Call

WHOLE = 2.0
"""Seconds for which a finish reason and usage are waited for after a text that is complete by itself."""

_LOOKS = 16  # at one answer: looking costs a reading of the whole text


class WholeText:
    """Follows a text and looks at it where JSON may have ended; other forms may always go on.

    Args:
        call: whose answer it is; one that cannot tell a complete text is never complete.
    """

    def __init__(self, call: Call) -> None:
        self._complete = call.complete
        self._pieces: list[str] = []
        self._looks = 0

    def grows(self, piece: str) -> bool:
        """Add a piece; whether the text is complete now."""
        if self._complete is None or self._looks >= _LOOKS:
            return False
        self._pieces.append(piece)
        if "}" not in piece[-8:]:
            return False
        self._looks += 1
        return self._complete("".join(self._pieces))
