"""Limits on how much of one answer is read; every answer that its cap allows is well within them."""

from __future__ import annotations

from dataclasses import dataclass

from service.lvlm.providers.base import Call, FailureKind, ProviderError

KIB, MIB = 2**10, 2**20

PAUSE = 0.001
"""Seconds between two pieces of a flood.

A loop that is never idle holds Python's lock, for which every thread that scores candidates then waits 5 ms.
"""

EVENT = MIB
"""Bytes of one server-sent event."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one call may bring; beyond it the attempt ends as ``FailureKind.OVERSIZED``.

    Attributes:
        body: bytes of a streamed body, after inflating, comments included. Vendors wrap a token in 200 to 600
            bytes.
        lines: of a stream: an event is two to five, and one of them may be a comment.
        plain: bytes of a body that is one JSON object.
        text: characters of the answer; a long word of a rare script may be one token.
    """

    body: int
    lines: int
    plain: int
    text: int

    @classmethod
    def of(cls, call: Call) -> Bounds:
        """The bounds for a call's cap on output tokens."""
        tokens = call.max_output_tokens
        return cls(
            body=MIB + 2 * KIB * tokens,
            lines=4 * KIB + 8 * tokens,
            plain=256 * KIB + 32 * tokens,
            text=32 * KIB + 32 * tokens,
        )


def oversized(what: str) -> ProviderError:
    """The error for something that has no end."""
    return ProviderError(FailureKind.OVERSIZED, f"the provider sent {what} without an end")
