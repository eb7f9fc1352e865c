"""Rewrites the usage of replies as servers do that only resemble a vendor, alike for both vendors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from service.simulator.contracts import Content, Rewrite

THOUGHT = "The first candidate, [A], looks fine."
"""Text of a part that holds the model's reasoning; it names a label that is not the answer."""

_COUNTS: Mapping[str, Callable[[int], object]] = {
    "usage_text": lambda count: f"about {count}",
    # JSON has no NaN; Python's json writes it all the same, as other servers do.
    "usage_nan": lambda count: float("nan"),
    "usage_inflated": lambda count: 1_000 * count,
    "usage_absurd": lambda count: 10**30 + count,
    "usage_negative": lambda count: -count,
}


def _usage(fault: str, usage: Any) -> Any:
    """Changes all counts of a usage as the fault asks; None for a usage that is missing."""
    if fault == "usage_missing":
        return None
    if isinstance(usage, dict):
        return {name: _usage(fault, value) for name, value in usage.items()}
    return _COUNTS[fault](usage) if isinstance(usage, int) else usage


def odd_usage(fault: str) -> Rewrite:
    """Makes the rewrite that reports a wrong usage, or none."""

    def rewrite(content: Content) -> Iterator[Content]:
        message = content.get("message")
        if isinstance(message, dict) and "usage" in message:  # Anthropic's first event
            content = {**content, "message": {**message, "usage": _usage(fault, message["usage"])}}
        if content.get("usage"):
            content = {**content, "usage": _usage(fault, content["usage"])}
        yield content

    return rewrite


def halves(text: str) -> tuple[str, str]:
    """Cuts a text in two."""
    return text[: len(text) // 2], text[len(text) // 2 :]
