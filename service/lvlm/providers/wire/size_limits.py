"""Limits on how much of one answer is read. They protect memory and the event loop from endless answers.

Every answer that the call's cap on output tokens allows is well within them; beyond one the attempt ends with
``FailureKind.OVERSIZED``.
"""

from __future__ import annotations

from dataclasses import dataclass

from service.lvlm.providers.base import Call, FailureKind, ProviderError

KIB, MIB = 2**10, 2**20

FLOOD_PAUSE = 0.001
"""Seconds of pause between two pieces of an answer that arrives faster than it is read.

An event loop that is never idle holds Python's global lock, and every thread that scores candidates then
waits 5 ms for it each time (``sys.getswitchinterval``).
"""

MAX_EVENT = MIB
"""Bytes of one server-sent event; a longer one ends the attempt as oversized."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Largest sizes of one call's answer; beyond any of them the attempt ends as oversized.

    Attributes:
        body: bytes of a streamed body, inflated, with its comments. Vendors wrap a token in 200 to 600 bytes.
        lines: number of lines of a stream. An event has two to five, and one of them may be a comment.
        plain: bytes of a body that is one JSON object, inflated.
        text: characters of the answer's text. A token may be a long word of a rare script.
    """

    body: int
    lines: int
    plain: int
    text: int

    @classmethod
    def of(cls, call: Call) -> Bounds:
        """Returns the bounds that a call's cap on output tokens allows, with room to spare."""
        tokens = call.max_output_tokens
        return cls(
            body=MIB + 2 * KIB * tokens,
            lines=4 * KIB + 8 * tokens,
            plain=256 * KIB + 32 * tokens,
            text=32 * KIB + 32 * tokens,
        )


def oversized(what: str) -> ProviderError:
    """Returns the error for a part of an answer that exceeds its limit.

    Args:
        what: name of the part for the message, with its article: ``a body``.
    """
    return ProviderError(FailureKind.OVERSIZED, f"the provider sent {what} without an end")
