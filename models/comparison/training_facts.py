"""Says how the training of a row went: how far it came, why it ended, and what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.networks.config import LearningConfig
from models.training.progress import is_over, validation_of


def ended_by(result: Mapping[str, Any], limits: LearningConfig) -> str:
    """Names what ended a training: ``patience``, ``epochs`` or ``minutes``."""
    if "ended_by" in result:
        return str(result["ended_by"])
    if not is_over(result["epochs"], result["best_epoch"], limits):
        return "minutes"
    return "epochs" if result["epochs"] >= limits.epochs else "patience"


def still_rises(log: Sequence[Mapping[str, float]]) -> bool:
    """Returns whether validation is best in the last tenth of the epochs, the last one at least."""
    if not log:
        return False
    values = [validation_of(line) for line in log]
    return values.index(max(values)) >= len(values) - max(1, len(values) // 10)


def hours_left(result: Mapping[str, Any], limits: LearningConfig) -> float:
    """Estimates the hours to the configured number of epochs, at the speed so far."""
    return float(max(0, limits.epochs - result["epochs"]) * result["seconds_per_epoch"] / 3600)
