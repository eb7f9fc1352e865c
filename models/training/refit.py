"""Trains a finished run's configuration anew on training and validation, for as many epochs as it chose.

A graph network knows of a user what it was trained on, and a sequence network reads the validation item in
the history when it is tested: without this, graph families are tested with one interaction less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from models.contracts.one_writer import one_writer
from models.data.dataset import Dataset
from models.errors import TrainingError
from models.features import Features
from models.networks.base import Network
from models.networks.config import Config, LearningConfig
from models.training.loop import trained_in
from models.training.run import REFIT, Origin, Run

SUFFIX = "-refit"
"""End of the names of such a run's folder and backbone."""


def refit(
    run: Run,
    dataset: Dataset,
    features: Mapping[str, Features],
    device: torch.device,
    tensorboard: Path | None = None,
) -> tuple[Network, Run, dict[str, Any]]:
    """Trains with new weights on training and validation, in a folder beside the run's, and measures test.

    An interrupted one goes on, and so does a finished one where the run has found a later best epoch by now.

    Args:
        run: finished run of a family that learns; its best epoch is the last one here.
        dataset: items and complete histories of the run.
        features: frozen features that the run was trained with.
        device: device to compute on.
        tensorboard: folder for TensorBoard, as in ``train``.

    Returns:
        The network, the new run and its result, whose metrics are those of the test part alone.

    Raises:
        TrainingError: the run is not finished, or its family does not learn; or as ``train``.
        RunError: another run is in the folder, or a file is damaged.
        WriteError: a file cannot be written.
    """
    target, config, origin = planned(run)
    with one_writer(target.folder):
        network, result = trained_in(
            target, config, origin, dataset, features, device, tensorboard=tensorboard
        )
        return network, target, result


def planned(run: Run) -> tuple[Run, Config, Origin]:
    """Returns the folder of a finished run's refit, which may be empty, its configuration and its origin.

    Raises:
        TrainingError: the run is not finished, or its family does not learn.
        RunError: a file of the run is damaged.
    """
    result, config, origin = run.result(), run.config(), run.origin()
    if result is None or not isinstance(config.training, LearningConfig):
        raise TrainingError(
            f"{run.folder} has no best epoch to train anew for: its family only counts, or it is not finished"
        )
    epochs = int(result["best_epoch"])
    config = replace(config, training=replace(config.training, epochs=epochs, patience=epochs))
    target = Run(run.folder.with_name(run.folder.name + SUFFIX))
    return target, config, replace(origin, model=origin.model + SUFFIX, part=REFIT)
