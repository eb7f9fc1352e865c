"""Defines the error of a bundle that cannot be used, and how it quotes values (standard library only)."""

from __future__ import annotations


class BundleError(Exception):
    """A bundle, or a part of one, is missing, damaged or of another version; the message says what to do."""


def quoted(value: object) -> str:
    """Quotes a value that a file holds, of any type, shortened and with its control characters escaped."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
