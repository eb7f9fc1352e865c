"""Leads from a configuration and a data set to a trained run, which another call finds finished."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from models.data.dataset import Dataset
from models.features import item_features
from models.networks.base import Network
from models.networks.config import Config
from models.training.loop import build, train
from models.training.run import Origin, Run


def trained_run(
    target: Run, config: Config, origin: Origin, dataset: Dataset, cache: Path, device: torch.device
) -> tuple[Network, dict[str, Any]]:
    """Trains into a folder, goes on with the run that is in it, or reads the finished one.

    Args:
        target: folder of the run, of which the caller is the only writer.
        config: configuration.
        origin: what it is trained on.
        dataset: items and complete histories.
        cache: folder of computed features.
        device: device to compute on.

    Returns:
        The network with its best weights, and the result of the run.

    Raises:
        ModelsError: the folder holds another run, features cannot be made, or the training fails.
    """
    target.check(config, origin)  # refuses another run of this name before features are computed
    features = item_features(dataset, config.features, config.modalities, cache)
    network = build(config, dataset, features)
    try:
        target.start(config, origin)
        return network, train(network, dataset, target, device)
    finally:
        target.discard_untrained()
