"""Defines the errors of making a bundle; every message says what to do next.

An error about a damaged bundle is ``contracts.BundleError``, which the service raises too.
"""

from __future__ import annotations


class ModelsError(Exception):
    """Base of all errors that ``python -m models`` prints as one sentence."""


class DataError(ModelsError):
    """A data set is missing, damaged or contradicts itself."""


class EvaluationError(ModelsError):
    """A metric has no value: too few items to draw negatives from, or no user to average over."""


class TrainingError(ModelsError):
    """Training cannot start or go on: for want of data, memory or a device, or the loss is not a number."""


class WriteError(ModelsError):
    """A file or folder cannot be written, because the disk is full for one; the one before is kept."""
