"""Declares and reads the options that commands which train share."""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

import torch

from models.errors import TrainingError
from models.training.config import ConfigError


def add_training_options(parser: ArgumentParser) -> None:
    """Declares changes of configurations, where runs and features are kept, and what computes."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        dest="settings",
        help="change one value; in a table, of every configuration",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="default: runs")
    parser.add_argument(
        "--features-cache", type=Path, metavar="FOLDER", help="computed features; default: RUNS/features"
    )
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, …")


def minutes(text: str) -> float:
    """Reads ``--minutes``, a number above 0; for argparse's ``type``.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"{text} is not a number of minutes above 0")
    return value


def check_places(runs: Path, features_cache: Path | None, tensorboard: Path | None = None) -> None:
    """Refuses a place for folders that is a file.

    Raises:
        ConfigError: one of them is.
    """
    folders = {"--runs": runs, "--features-cache": features_cache, "--tensorboard": tensorboard}
    for option, folder in folders.items():
        if folder is not None and folder.exists() and not folder.is_dir():
            raise ConfigError(f"{option} {folder} is no folder: give another one, which is made if missing")


def device_of(name: str) -> torch.device:
    """Returns the device that ``--device`` names.

    Raises:
        ConfigError: torch knows none of this name.
        TrainingError: this machine or this build of torch cannot compute on it.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device {name!r} is no device that torch knows: cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "--device cuda: this machine or this build of torch has no CUDA; use --device cpu"
        )
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:  # such as a second GPU that is not there, meta or mps
        raise TrainingError(
            f"--device {name}: this machine or this build of torch cannot compute on it; use --device cpu"
        ) from error
    return device
