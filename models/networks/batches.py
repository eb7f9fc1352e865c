"""Cuts histories into training sequences, makes batches of them, and draws negatives for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.data.dataset import Rows

Sequences = Mapping[int, Tensor]
"""Item rows int64 [S, n + 1] by length n: inputs are the first n, targets the last n."""


def training_sequences(
    histories: Sequence[Rows], length: int, windows: Literal["all", "last"] = "all"
) -> Sequences:
    """Cuts every history into windows of at most L inputs, from the newest item backwards.

    Consecutive windows share one item, so every item but a user's first is a target exactly once, however
    long the history is.

    Args:
        histories: item rows of the training part, one array per user.
        length: L, at least 1.
        windows: ``all``, or ``last``, the newest window of each user alone.
    """
    cut: dict[int, list[Rows]] = defaultdict(list)
    for history in histories:
        end = len(history)
        while end >= 2:
            start = max(0, end - length - 1)
            cut[end - start - 1].append(history[start:end])
            end = start + 1  # the first item of this window is the last target of the one before it
            if windows == "last":
                break
    return {n: torch.from_numpy(np.stack(rows).astype(np.int64)) for n, rows in sorted(cut.items())}


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


def mixed_batches(sequences: Sequences, count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yields every sequence once, in random batches of any lengths.

    Args:
        sequences: item rows by length.
        count: number of sequences in a batch; the last one may have fewer.
        generator: generator that shuffles them.

    Yields:
        Item rows int64 [B, n + 1], n the largest length of all; a shorter sequence ends with -1s.
    """
    width = max(sequences) + 1
    rows = torch.cat(
        [functional.pad(each, (0, width - each.shape[1]), value=-1) for each in sequences.values()]
    )
    yield from torch.split(rows[torch.randperm(len(rows), generator=generator)], count)


def negatives_outside(rows: Tensor, items: int, generator: torch.Generator) -> Tensor:
    """Draws one negative for each target of a batch, uniformly among the items that its sequence lacks.

    Args:
        rows: item rows int64 [B, n + 1]; -1 where a sequence has ended.
        items: size of the catalogue.
        generator: generator on the CPU.

    Returns:
        Item rows int64 [B, n]; any items where a sequence holds the whole catalogue.
    """
    count, length = rows.shape
    own = rows.sort(dim=1).values  # [B, n + 1]
    spare = own < 0
    spare[:, 1:] |= own[:, 1:] == own[:, :-1]
    # Repeats go beyond the catalogue, to the end: own_i is the i-th different item of the sequence.
    own = own.masked_fill(spare, items + length).sort(dim=1).values
    free = items - (~spare).sum(dim=1, keepdim=True)  # [B, 1]
    chance = torch.rand(count, length - 1, dtype=torch.float64, generator=generator).to(rows.device)
    drawn = (chance * free).long()  # [B, n], the number of a free item, in the catalogue's order
    # Free item k has i own items before it where own_0 - 0, …, own_(i-1) - (i-1) are at most k.
    before = own - torch.arange(length, device=rows.device)  # [B, n + 1]
    skipped = (before[:, None] <= drawn[:, :, None]).sum(dim=-1)  # [B, n]
    return (drawn + skipped) % items
