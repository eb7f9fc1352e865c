"""The records that go into the LVLM stage and come out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from service.lvlm.bill import Bill
from service.lvlm.providers.base import SIMULATOR
from service.strategies import Strategy

Modality = Literal["title", "image", "title+image"]
ImageMode = Literal["grid", "strip", "separate"]
Form = Literal["label", "paper"]
CacheUse = Literal["use", "refresh", "off"]
CacheResult = Literal["hit", "stale", "negative", "coalesced", "miss", "refresh", "off"]
"""What the answer cache did for a request.

``stale`` was answered from it while a new answer is fetched, ``negative`` is an answer known to be unusable,
and ``coalesced`` came of a call that another request or another worker had begun.
"""

HISTORY_SHOWN = 10
"""Latest items of the history that a prompt shows, whatever the backbone reads (the paper's setting)."""


class Outcome(StrEnum):
    """How the stage ended; every value but the first three leaves the candidate model's order."""

    OK = "ok"
    REPAIRED = "repaired"  # something was invented, repeated, missing or in another form
    PARTIAL = "partial"  # the deadline came, and a prefix of the ranking was there
    FALLBACK_DEADLINE = "fallback_deadline"
    FALLBACK_PROVIDER = "fallback_provider"
    FALLBACK_ANSWER = "fallback_answer"  # the model said nothing that can be used, or refused
    FALLBACK_LIMIT = "fallback_limit"  # no permit or turn came free in time
    FALLBACK_BUDGET = "fallback_budget"

    @property
    def good(self) -> bool:
        """Whether a complete answer was given: only these are worth keeping."""
        return self in (Outcome.OK, Outcome.REPAIRED)


@dataclass(frozen=True, slots=True)
class Shown:
    """How many of the history's items the prompt showed by title, by image and by caption."""

    titles: int = 0
    images: int = 0
    captions: int = 0


@dataclass(frozen=True, slots=True)
class StageRequest:
    """One ranking asked of an LVLM.

    Attributes:
        history: item rows, oldest first.
        pool: rows to rank, in the candidate model's order; at least one, no duplicates.
        k: number of items that the caller will show; the LVLM is asked for no more.
        modality: what the raw view shows of an item; the enhanced view ignores it.
        deadline: seconds from now until the answer is needed.
        backbone_version: version of the backbone that ordered the pool.
        alternatives: providers and models that may answer instead if the first one cannot, in this order.
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
class StageOptions:
    """What a deployment chooses for all its requests.

    Attributes:
        stream: whether to ask for server-sent events, so that a deadline finds a prefix of the ranking.
        max_output_tokens: cap on an answer; generous, since models that think bill their thoughts here.
        call_seconds: seconds for which a call may go on, for the cache, after its request's deadline.
        closing_seconds: seconds for which calls under way may go on when the service stops: they are paid
            for.
    """

    stream: bool = True
    max_output_tokens: int = 2_048
    call_seconds: float = 60.0
    closing_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """What a model's text says, as far as it can be used.

    Attributes:
        order: positions in the pool as shown, best first, without duplicates.
        invented: number of entries that are not in the pool.
        duplicated: number of entries that repeat an earlier one.
        missing: number of items asked for and not answered.
        explanation: words about this very order; cleaned, capped and HTML-escaped; None without any.
        form: whether it came in another form than the one asked for.
    """

    order: tuple[int, ...]
    invented: int
    duplicated: int
    missing: int
    explanation: str | None = None
    form: bool = False

    @property
    def repaired(self) -> bool:
        """Whether anything had to be left out, filled in or understood."""
        return bool(self.invented or self.duplicated or self.missing or self.form)


@dataclass(frozen=True, slots=True)
class Responder:
    """The model that answered, or that was asked last; empty names before any is asked.

    Attributes:
        provider: configured name of the provider.
        model: the provider's name for the model.
        simulated: whether the simulator said that it answers, whatever the provider is called.
        blind: whether the server takes no pictures and was sent none.
    """

    provider: str = ""
    model: str = ""
    simulated: bool = False
    blind: bool = False

    @property
    def reported_as(self) -> str:
        """The provider's name in answers: the simulator's whenever it answered."""
        return SIMULATOR if self.simulated else self.provider


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """The one record of an answer: what was said, by whom, to which prompt, and what it is worth.

    The answer cache keeps it, equal requests share it, and a result holds it.

    Attributes:
        parsed: what the text says; its order is empty if nothing of it can be used.
        outcome: what it is worth.
        shown: what the prompt showed of the history; None if it was not built.
        responder: the model that gave it.
    """

    parsed: ParsedAnswer
    outcome: Outcome
    shown: Shown | None = None
    responder: Responder = field(default_factory=Responder)


@dataclass(frozen=True, slots=True)
class StageResult:
    """What the LVLM said about the pool, and what it took.

    Attributes:
        order: rows that the LVLM placed, best first: a subset of the pool without duplicates, empty on a
            fallback. The caller continues with the candidate model's order.
        answer: the answer behind the order. Where no model was asked, its responder has the names of the one
            that the request wanted. It has an explanation only if the request wanted one.
        cache: what the answer cache did.
        bill: what this request's own attempts took; nothing for an answer from the cache, nor for one that
            another request's call gave.
        caption_calls: number of calls begun in the background for captions that are missing; their usage is
            in no answer, but in the metrics and the budgets.
        warnings: sentences for the caller.
        seconds: time spent per step: ``prompt``, ``cache``, ``lvlm``.
    """

    order: tuple[int, ...]
    answer: JudgedAnswer
    cache: CacheResult
    bill: Bill = field(default_factory=Bill)
    caption_calls: int = 0
    warnings: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        """How the stage ended."""
        return self.answer.outcome

    @property
    def shown(self) -> Shown:
        """What the prompt showed of the history; nothing if it was not built."""
        return self.answer.shown or Shown()
