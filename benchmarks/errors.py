"""Defines the error that the command line prints as one sentence, with exit code 2."""

from __future__ import annotations


class BenchmarkError(Exception):
    """A measurement cannot be made or trusted; the message says what to do next."""
