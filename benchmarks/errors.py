"""The error that the command line prints as one sentence, with exit code 2."""

from __future__ import annotations


class BenchmarkError(Exception):
    """Says that a measurement cannot be made or trusted; the message tells what to do next."""
