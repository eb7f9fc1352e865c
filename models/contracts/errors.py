"""Defines the error of a bundle that cannot be opened or written (standard library only)."""

from __future__ import annotations


class BundleError(Exception):
    """A bundle, or a part of one, is missing, damaged or of another version; the message says what to do."""
