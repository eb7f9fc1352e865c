"""What goes into the LVLM stage and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from service.lvlm.providers.base import Usage
from service.strategies import Strategy

Modality = Literal["title", "image", "title+image"]
ImageMode = Literal["grid", "strip", "separate"]
Form = Literal["label", "paper"]
CacheUse = Literal["use", "refresh", "off"]
CacheResult = Literal["hit", "stale", "negative", "coalesced", "miss", "refresh", "off"]
"""What the answer cache did for a request.

``stale`` was answered from it while a new answer is fetched, ``negative`` is an answer known to be unusable,
and ``coalesced`` came of a call that another request had begun.
"""

HISTORY_SHOWN = 10
"""A view describes the last ten items of the history, whatever the backbone reads (the paper's setting)."""


class Outcome(StrEnum):
    """How the stage ended; every value but the first three leaves the candidate model's order."""

    OK = "ok"
    REPAIRED = "repaired"
    PARTIAL = "partial"
    FALLBACK_DEADLINE = "fallback_deadline"
    FALLBACK_PROVIDER = "fallback_provider"
    FALLBACK_ANSWER = "fallback_answer"
    FALLBACK_LIMIT = "fallback_limit"
    FALLBACK_BUDGET = "fallback_budget"

    @property
    def good(self) -> bool:
        """Whether a complete answer was given: only these are worth keeping."""
        return self in (Outcome.OK, Outcome.REPAIRED)


@dataclass(frozen=True, slots=True)
class Shown:
    """How many of the history's items were really shown by title, by image and by caption."""

    titles: int = 0
    images: int = 0
    captions: int = 0


@dataclass(frozen=True, slots=True)
class StageRequest:
    """One ranking asked of an LVLM.

    Attributes:
        history: item rows, oldest first.
        pool: the rows to rank, in the candidate model's order; at least one, no duplicates.
        k: how many items the caller will show; the LVLM is asked for no more.
        modality: what the raw view shows of an item; the enhanced view ignores it.
        deadline: seconds from now until the answer is needed.
        backbone_version: of the backbone that ordered the pool.
        alternatives: providers and models that may answer instead if the first one cannot.
    """

    strategy: Strategy
    history: tuple[int, ...]
    pool: tuple[int, ...]
    k: int
    provider: str
    model: str
    modality: Modality = "title+image"
    image_mode: ImageMode = "grid"
    form: Form = "label"
    cache: CacheUse = "use"
    explain: bool = False
    deadline: float = 10.0
    backbone_version: str = ""
    alternatives: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class StageResult:
    """What the LVLM said about the pool, and what it took.

    Attributes:
        order: the rows that the LVLM placed, best first: a subset of the pool without duplicates, empty on a
            fallback. The caller continues with the candidate model's order.
        provider: who answered: ``simulator`` whenever it did, whatever the provider is called.
        usage: tokens of this request's own attempts; none for an answer from the cache, nor for one that
            another request's call gave.
        cost_usd: None if the model's price is not known.
        estimated: some of the usage was not reported by the provider.
        caption_calls: begun in the background for captions that are missing; their usage is in no answer, but
            in the metrics and the budgets.
        invented: answered items that are not in the pool.
        missing: items asked for and not answered.
        explanation: HTML-escaped; only if it was asked for.
        seconds: time spent per step: ``prompt``, ``cache``, ``lvlm``.
    """

    order: tuple[int, ...]
    outcome: Outcome
    provider: str
    model: str
    cache: CacheResult
    shown: Shown = field(default_factory=Shown)
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = 0.0
    estimated: bool = False
    caption_calls: int = 0
    invented: int = 0
    duplicated: int = 0
    missing: int = 0
    explanation: str | None = None
    warnings: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
