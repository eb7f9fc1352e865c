"""Cuts histories into training sequences and groups them by length, so that no batch needs padding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from models.data.dataset import Rows

Sequences = Mapping[int, Tensor]
"""Item rows int64 [S, n + 1] by length n: inputs are the first n, targets the last n."""


def training_sequences(histories: Sequence[Rows], length: int) -> Sequences:
    """Cuts every history into windows of at most L inputs, from the newest item backwards.

    Consecutive windows share one item, so every item but a user's first is a target exactly once, however
    long the history is.

    Args:
        histories: item rows of the training part, one array per user.
        length: L, at least 1.
    """
    windows: dict[int, list[Rows]] = defaultdict(list)
    for history in histories:
        end = len(history)
        while end >= 2:
            start = max(0, end - length - 1)
            windows[end - start - 1].append(history[start:end])
            end = start + 1  # the first item of this window is the last target of the one before it
    return {n: torch.from_numpy(np.stack(rows).astype(np.int64)) for n, rows in sorted(windows.items())}


def batches(sequences: Sequences, positions: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yields every sequence once, in random batches of one length each.

    Args:
        sequences: item rows by length.
        positions: number of targets in a batch, about: it holds positions / n sequences, at least one.
        generator: generator that shuffles them.

    Yields:
        Item rows int64 [B, n + 1].
    """
    shuffled: list[Tensor] = []
    for n, rows in sequences.items():
        order = torch.randperm(len(rows), generator=generator)
        shuffled += torch.split(rows[order], max(1, positions // n))
    for index in torch.randperm(len(shuffled), generator=generator).tolist():
        yield shuffled[index]
