"""Lists the paper's six strategies: two ways to show an item times three ways to rank.

Source: MSRBench (Zhou et al., WWW 2025), Figure 1. S4 and S5 are S1 and S3 on the enhanced view, so they
need no code of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from models.contracts import TextView

StrategyName = Literal["none", "s1", "s2", "s3", "s4", "s5"]


class Task(StrEnum):
    """What the LVLM is asked to do with the candidates."""

    NONE = "none"
    RECOMMEND = "recommend"  # the pool is shown without a hint of the candidate model's order
    RERANK = "rerank"  # the pool is shown in the candidate model's order


@dataclass(frozen=True, slots=True)
class Strategy:
    """One strategy of ``STRATEGIES``.

    Attributes:
        name: name in requests, answers and metric labels.
        view: description of the history's items: ``raw`` (title, image) or ``enhanced`` (title, caption).
        task: task of the LVLM.
        backbone_view: text view of the backbone that makes the candidates unless the request names one.
    """

    name: StrategyName
    view: TextView
    task: Task
    backbone_view: TextView

    @property
    def asks_lvlm(self) -> bool:
        """Whether an LVLM is called at all."""
        return self.task is not Task.NONE


# S2 asks no LVLM: the captions are in the vectors of a backbone that was trained on them.
STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        Strategy("none", view="raw", task=Task.NONE, backbone_view="raw"),
        Strategy("s1", view="raw", task=Task.RECOMMEND, backbone_view="raw"),
        Strategy("s2", view="enhanced", task=Task.NONE, backbone_view="enhanced"),
        Strategy("s3", view="raw", task=Task.RERANK, backbone_view="raw"),
        Strategy("s4", view="enhanced", task=Task.RECOMMEND, backbone_view="raw"),
        Strategy("s5", view="enhanced", task=Task.RERANK, backbone_view="raw"),
    )
}
