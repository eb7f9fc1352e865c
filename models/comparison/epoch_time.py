"""Times an epoch at the batch size of the paper's Table 2."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from models.data.dataset import Dataset
from models.features import Features
from models.networks.base import LearningNetwork
from models.networks.config import Config
from models.training.device import autocast, describe
from models.training.loop import build

BATCH, STEPS = 64, 200
"""Batch size of Table 2, and steps that are timed."""

WARM_UP = 3
"""Steps before the clock starts: the first ones take memory."""

LONGEST = 120.0
"""Seconds after which no further step is timed."""

BATCH_KEYS = ("sequences", "batch")
"""Settings of ``[training]`` that hold the number of users' sequences, or of interactions, in a step."""


@dataclass(frozen=True, slots=True)
class EpochTime:
    """What an epoch at ``BATCH`` would take.

    Attributes:
        seconds: seconds of an epoch: those of making its batches, and those of a step times its steps.
        steps: number of steps that were timed.
        of: number of steps in an epoch.
        device: device that computed.
    """

    seconds: float
    steps: int
    of: int
    device: str

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, as a run keeps them."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: object) -> EpochTime | None:
        """Reads what ``to_json`` made; None for anything else."""
        match record:
            case {"seconds": float(seconds), "steps": int(steps), "of": int(of), "device": str(device)}:
                return cls(seconds, steps, of, device)
        return None


def at_batch(config: Config) -> Config | None:
    """Returns the configuration with ``BATCH`` in a step; None for a family without steps of such a kind."""
    training = asdict(config.training)
    key = next((key for key in BATCH_KEYS if key in training), None)
    if key is None:
        return None
    changes: dict[str, Any] = {key: BATCH, **({"positions": 0} if "positions" in training else {})}
    return replace(config, training=replace(config.training, **changes))


def time_epoch(
    config: Config, dataset: Dataset, features: Mapping[str, Features], device: torch.device
) -> EpochTime | None:
    """Times at most ``STEPS`` steps of a new network and scales them to an epoch.

    Args:
        config: configuration of a run, whose batch size is replaced.
        dataset: items and complete histories.
        features: frozen features of each modality.
        device: device to compute on.

    Returns:
        The seconds; None for a family that takes no steps.
    """
    changed = at_batch(config)
    if changed is None:
        return None
    network = build(changed, dataset, features).to(device)
    if not isinstance(network, LearningNetwork):
        return None
    optimiser, generator = network.optimiser(), torch.Generator().manual_seed(0)
    network.train()
    begun = time.perf_counter()
    batches = list(network.batches(generator))
    making = time.perf_counter() - begun
    done, start = 0, time.perf_counter()
    for number, batch in enumerate(batches[: WARM_UP + STEPS]):
        if number == WARM_UP:
            _wait(device)
            start = time.perf_counter()
        with autocast(device, network.learning.precision):
            loss = network.loss(batch.to(device), generator)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if number >= WARM_UP or len(batches) <= WARM_UP:
            done += 1
            if time.perf_counter() - start > LONGEST:
                break
    _wait(device)
    seconds = time.perf_counter() - start
    return EpochTime(making + seconds / done * len(batches), done, len(batches), describe(device))


def _wait(device: torch.device) -> None:
    """Waits for what the device was given to do: a GPU answers before it has computed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
