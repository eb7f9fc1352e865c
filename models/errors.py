"""What can go wrong while a bundle is made; every message says what to do next.

``contracts.BundleError`` (a damaged bundle) is the one that the service shares.
"""

from __future__ import annotations


class ModelsError(Exception):
    """The base of all errors that the door ``python -m models`` prints as one sentence."""


class DataError(ModelsError):
    """A data set is missing, damaged or contradicts itself."""


class EvaluationError(ModelsError):
    """An evaluation was asked for something that has no answer."""
