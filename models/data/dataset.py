"""Defines the form of a data set that every reader returns and every model is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.contracts import Item
from models.data.report import ReadingReport

Rows = NDArray[np.int32]
"""Item rows (0-based positions in ``Dataset.items``), oldest first."""


@dataclass(frozen=True)
class Dataset:
    """A catalogue of items and the complete history of every user.

    Attributes:
        name: name of the data set, short and lower case, e.g. ``beauty``.
        items: products; their order is the order of all vectors.
        users: public user ids; a user's position here is that of the history.
        histories: one array of item rows per user, oldest first, complete (the test item is the last).
        images: folder that ``Item.image`` names are relative to; None without pictures.
        captions: caption by captioner and item row.
        negatives: item rows by user position, sampled by the authors of the data; None without any.
        report: what was left out or changed when the data were read.
    """

    name: str
    items: tuple[Item, ...]
    users: tuple[str, ...]
    histories: tuple[Rows, ...]
    images: Path | None = None
    captions: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    negatives: Mapping[int, Rows] | None = None
    report: ReadingReport = field(default_factory=ReadingReport)

    @property
    def interactions(self) -> int:
        """Counts the user-item pairs."""
        return sum(len(history) for history in self.histories)
