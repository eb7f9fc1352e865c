"""Holds the printed tables of the paper that this project follows, MSRBench (Zhou et al., WWW 2025).

``tables.toml`` beside this file has them all; Tables 1 and 2 can be read row by row. Standard library only.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

TABLES = Path(__file__).with_name("tables.toml")
"""Every table of the paper as printed, with remarks; its first lines say how to read it."""

METRICS = ("H@1", "H@5", "N@5")
"""Columns of Table 1 for each category, over 1 + 29 candidates."""


@dataclass(frozen=True, slots=True)
class AccuracyRow:
    """One row of Table 1.

    Attributes:
        method: recommender or LVLM, as printed: ``MoRec (T)``, ``GPT-4o``.
        strategy: ``S1`` to ``S5``; None for a recommender without an LVLM.
        percents: ``METRICS`` in percent by category: beauty, sports, toys and clothing.
    """

    method: str
    strategy: str | None
    percents: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class SecondsRow:
    """One row of Table 2, which is about Beauty at batch size 64.

    Attributes:
        model: recommender or LVLM, as printed: ``MoRec (T)``, ``Claude-3-Opus``.
        strategy: ``S1`` to ``S5``; None for a recommender without an LVLM.
        training: seconds of training per epoch; None where nothing is trained.
        inference: seconds per user.
    """

    model: str
    strategy: str | None
    training: float | None
    inference: float


@cache
def table1() -> tuple[AccuracyRow, ...]:
    """Reads Table 1, accuracy, in its order."""
    table = _tables()["table1"]
    return tuple(
        AccuracyRow(
            row["method"],
            row.get("strategy"),
            {name: dict(zip(METRICS, row[name], strict=True)) for name in table["categories"]},
        )
        for row in table["rows"]
    )


@cache
def table2() -> tuple[SecondsRow, ...]:
    """Reads Table 2, seconds, in its order."""
    return tuple(
        SecondsRow(
            row["model"],
            row.get("strategy"),
            row.get("train_seconds_per_epoch"),
            row["inference_seconds_per_user"],
        )
        for row in _tables()["table2"]["rows"]
    )


def accuracy_of(method: str, strategy: str | None = None) -> AccuracyRow:
    """Finds a row of Table 1.

    Raises:
        KeyError: there is no such row.
    """
    for row in table1():
        if (row.method, row.strategy) == (method, strategy):
            return row
    raise KeyError((method, strategy))


def seconds_of(model: str, strategy: str | None = None) -> SecondsRow:
    """Finds a row of Table 2. The three LVLMs share that of S2, whichever of them is named.

    Raises:
        KeyError: there is no such row.
    """
    for row in table2():
        if row.strategy == strategy and (row.model == model or strategy == "S2"):
            return row
    raise KeyError((model, strategy))


def method_of(family: str, modalities: tuple[str, ...]) -> str | None:
    """Names the row of both tables that a recommender of ours stands beside; None without one.

    Args:
        family: name of the family, as in configurations and manifests.
        modalities: what it reads of an item: ``id``, ``text``, ``image``.
    """
    if family == "morec":
        letters = [letter for name, letter in (("text", "T"), ("image", "I")) if name in modalities]
        # A recommender that has a vector per id besides is none of the paper's.
        return f"MoRec ({'+'.join(letters)})" if letters and "id" not in modalities else None
    named = {"random": "Random", "pop": "Pop", "sasrec": "SASRec", "iisan": "IISAN"}
    graphs = {"mmgcn": "MMGCN", "freedom": "FREEDOM", "bm3": "BM3"}
    return {**named, **graphs}.get(family)


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads(TABLES.read_text(encoding="utf-8"))
