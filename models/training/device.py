"""Prepares the machine for a training: device, memory, precision, and the same bits every time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from models.errors import TrainingError
from models.networks.config import Config, Precision

SIZES = ("batch", "positions", "negatives", "dimension", "hidden", "length", "layers", "blocks", "neighbours")
"""Settings of the families that memory grows with, those first that change a result least."""


def describe(device: torch.device) -> str:
    """Describes a device in words, for manifests."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type}, {torch.get_num_threads()} threads"


@contextmanager
def enough_memory(config: Config) -> Iterator[None]:
    """Turns an error about memory that is used up into a sentence about what takes less.

    Args:
        config: configuration of the training, whose settings the sentence names.

    Raises:
        TrainingError: the memory of the machine or of the device is used up.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # On the CPU torch has no class of its own for it.
        if isinstance(error, RuntimeError) and not re.search("allocate memory|out of memory", str(error)):
            raise
        sizes = _sizes(config)
        lower = f"lower {' or '.join(sizes)}, or " if sizes else ""
        raise TrainingError(
            f"the memory is used up: {lower}train where there is more of it (--device)"
        ) from error


def _sizes(config: Config) -> list[str]:
    """Names the settings of a configuration that memory grows with, as ``--set`` takes them."""
    there = {
        name: f"{section}.{name}"
        for section, values in config.to_json().items()
        if isinstance(values, dict)
        for name, value in values.items()
        if type(value) is int and value > 0
    }
    return [there[name] for name in SIZES if name in there]


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Returns the block in which a loss is computed: products of matrices in bf16 where that is asked for.

    Weights, gradients and the optimiser's state stay in fp32; bf16 has its range, so no loss is scaled.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


@contextmanager
def same_bits(device: torch.device) -> Iterator[None]:
    """Makes a GPU compute the same bits in every run, as a CPU does; torch warns of what it cannot."""
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    before = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
