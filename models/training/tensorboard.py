"""Writes the log of a training for TensorBoard, which is not needed otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.errors import TrainingError


def require_tensorboard() -> Any:
    """Returns TensorBoard's writer of scalars.

    Raises:
        TrainingError: the package is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainingError(
            "--tensorboard needs a package that is not installed: pip install tensorboard, or leave the "
            "option out (log.jsonl in the run's folder has the same figures)"
        ) from error
    return SummaryWriter


class Scalars:
    """Scalars of one run, in a folder of their own among those that TensorBoard reads.

    Args:
        folder: folder of the run's scalars, made if it is missing.
        log: epochs that the run has already; they are written anew, in place of what an earlier call wrote.

    Raises:
        TrainingError: the package is not installed.
    """

    def __init__(self, folder: Path, log: Sequence[Mapping[str, float]]) -> None:
        # From step 0: what a killed call wrote of an epoch that is trained again would stand there twice.
        self._writer = require_tensorboard()(str(folder), purge_step=0)
        for line in log:
            self.write(line)

    def write(self, line: Mapping[str, float]) -> None:
        """Writes the loss, the seconds and the validation of an epoch, a line of ``log.jsonl``."""
        for name, value in line.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, int(line["epoch"]))
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()
