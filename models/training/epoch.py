"""Trains for one epoch, and tells on the way how far it is and how it goes."""

from __future__ import annotations

import logging
import math

import torch

from models.errors import TrainingError
from models.networks.base import LearningNetwork
from models.shown_progress import ShownProgress, spoken
from models.training.device import autocast, same_bits
from models.training.progress import LAST, TrainingProgress

log = logging.getLogger(__name__)

EVERY = 30.0
"""Seconds between two lines about an epoch, where the output is no terminal."""

SLOW = 10
"""An epoch that takes so many times as long as the one before is warned about."""

SHORT = 10.0
"""Seconds of an epoch that is not worth a warning, however short the one before was."""


def train_epoch(
    network: LearningNetwork, optimiser: torch.optim.Optimizer, progress: TrainingProgress
) -> float:
    """Takes one step per batch.

    Args:
        network: network on its device.
        optimiser: optimiser of the network's parameters.
        progress: how far the training has come; the number of its epochs, with the configuration's seed,
            makes the seed of order, negatives and dropout.

    Returns:
        The mean loss of the epoch's steps, in nats where it is a cross-entropy.

    Raises:
        TrainingError: the loss is not a number.
    """
    # A prime apart, so that no two seeds share an epoch's.
    seed = network.learning.seed * 100_003 + progress.epoch
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # dropout
    device = next(network.parameters()).device
    network.train()
    total, steps = torch.zeros((), device=device), 0
    order = network.batches(generator)
    with same_bits(device), _Course(progress, len(order), network) as course:
        for batch in order:
            with autocast(device, network.learning.precision):
                loss = network.loss(batch.to(device), generator)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += loss.detach()  # stays on the device: reading it would wait for every step
            steps += 1
            course.step(total)
    mean = float(total) / steps
    # The last step of an epoch may break the weights without a sign in the losses before it.
    if not math.isfinite(mean) or not is_finite(network):
        what = f"the loss of epoch {progress.epoch + 1} is {mean}"
        if math.isfinite(mean):
            what = f"epoch {progress.epoch + 1} ends with weights that are not numbers"
        raise TrainingError(
            f"{what}: lower training.learning_rate under another --name, or look for broken features; the "
            "best weights before are kept"
        )
    return mean


def is_finite(network: torch.nn.Module) -> bool:
    """Returns whether all weights are numbers."""
    return all(bool(torch.isfinite(each).all()) for each in network.parameters())


class _Course(ShownProgress):
    """Shows loss, the last validation and the time left, and warns once of an epoch that is far too slow."""

    def __init__(self, progress: TrainingProgress, steps: int, network: LearningNetwork) -> None:
        super().__init__(f"epoch {progress.epoch + 1}", steps, "step", EVERY)
        last = progress.log[-1] if progress.log else {}
        self._usual = last.get("seconds", math.inf)
        self._slow = False
        self._validation = ""
        if last and progress.selected_by != LAST:
            self._validation = f", {progress.selected_by} {progress.validation_of(last):.4f}"
        self._rest = progress.seconds_to(network.learning.epochs)
        self._noted, self._note = 0.0, ""

    def step(self, total: torch.Tensor) -> None:
        """Counts a step.

        Args:
            total: sum of the losses of the steps so far, a scalar on any device.
        """
        seconds = self.seconds
        if seconds - self._noted >= 1:  # the loss of every step would be waited for on a GPU
            self._noted = seconds
            self._note = f"loss {float(total) / (self.done + 1):.3f}{self._validation}{self._left(seconds)}"
        self.update(1, self._note)
        if not self._slow and seconds > max(SLOW * self._usual, SHORT):
            self._slow = True
            log.warning(
                "%s has taken %s for %d of %d steps, and the whole one before took %s: another process may "
                "need the machine, or its memory is used up",
                self.description,
                spoken(seconds),
                self.done,
                self.total,
                spoken(self._usual),
            )

    def _left(self, seconds: float) -> str:
        """Says how long the training goes on at most: patience may end it before."""
        return "" if self._rest is None else f", at most {spoken(max(0.0, self._rest - seconds))} left in all"
