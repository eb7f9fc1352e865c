"""The one error that the command line turns into a sentence."""

from __future__ import annotations


class BenchmarkError(Exception):
    """A measurement cannot be made or cannot be trusted; the message says what to do next."""
