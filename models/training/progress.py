"""Counts how far a training has come, and says when it ends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from models.networks.config import LearningConfig

SAMPLED_CRITERION = "N@5"
"""Metric over candidates that chooses the best epoch, as ``[training]`` names it."""

FULL_CRITERION = "full.N@10"
"""Metric over the whole catalogue that chooses the best epoch, as ``[training]`` names it."""

LAST = "last"
"""In place of a metric, of a training without validation: the last epoch is the best."""


@dataclass
class TrainingProgress:
    """How far a training has come.

    Attributes:
        epoch: number of complete epochs.
        best: best validation so far by ``selected_by``, a share of one; -1 before the first epoch.
        best_epoch: number of the epoch with the best validation, from 1; 0 before the first.
        log: one record per epoch: its number, loss, seconds and validation metrics.
        selected_by: metric that chooses the best epoch, a key of the log, or ``LAST``.
    """

    epoch: int = 0
    best: float = -1.0
    best_epoch: int = 0
    log: list[dict[str, float]] = field(default_factory=list)
    selected_by: str = SAMPLED_CRITERION

    def __post_init__(self) -> None:
        # A run of an older version does not say that no user of its data set had candidates.
        if self.log and self.selected_by == SAMPLED_CRITERION and SAMPLED_CRITERION not in self.log[0]:
            self.selected_by = FULL_CRITERION

    @property
    def seconds_per_epoch(self) -> float:
        """Mean wall time of an epoch in seconds, without validation."""
        return sum(line["seconds"] for line in self.log) / max(1, len(self.log))

    @property
    def seconds(self) -> float:
        """Wall time of all epochs in seconds, with validation."""
        return sum(line["seconds"] + line.get("validation_seconds", 0.0) for line in self.log)

    def seconds_to(self, epochs: int) -> float | None:
        """Returns the wall time in seconds that is left to a number of epochs; None before the first one."""
        return (epochs - self.epoch) * self.seconds / self.epoch if self.epoch else None

    def rises(self, patience: int) -> bool:
        """Returns whether validation still rises: the best epoch is nearer than half of the patience."""
        return self.epoch - self.best_epoch < max(1, patience / 2)

    def last_epoch(self, limits: LearningConfig) -> int:
        """Number of the epoch after which an uninterrupted training ends, as far as the log tells.

        Args:
            limits: section with the number of epochs and the patience.

        Returns:
            The number of complete epochs where the training goes on.
        """
        best, best_epoch = -1.0, 0
        for epoch, line in enumerate(self.log):
            if is_over(epoch, best_epoch, limits):
                return epoch
            if self.validation_of(line) > best:
                best, best_epoch = self.validation_of(line), epoch + 1
        return self.epoch

    def is_whole(self) -> bool:
        """Returns whether it holds what a training writes; a damaged file may hold anything."""
        shares = [self.validation_of(line) for line in self.log]
        times = [line["seconds"] for line in self.log]
        numbers = [*shares, *times, self.best]
        if not all(type(number) is float and math.isfinite(number) for number in numbers):
            return False
        best = max(shares, default=-1.0)
        best_epoch = shares.index(best) + 1 if shares else 0
        return (len(self.log), best, best_epoch) == (self.epoch, self.best, self.best_epoch)

    def validation_of(self, line: Mapping[str, float]) -> float:
        """Returns what an epoch of the log is judged by; a later one is better where nothing is measured."""
        if self.selected_by == LAST:
            return float(line["epoch"])
        older = FULL_CRITERION.removeprefix("full.")  # its name in the log of an older version
        return line[self.selected_by] if self.selected_by in line else line[older]


def is_over(epoch: int, best_epoch: int, limits: LearningConfig) -> bool:
    """Returns whether a training ends after ``epoch`` complete epochs of which ``best_epoch`` is the best."""
    return epoch >= limits.epochs or epoch - best_epoch >= limits.patience
