"""Defines the records that go into the LVLM stage and come out of it."""

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

``hit``: a fresh answer. ``stale``: an older answer, while a new one is fetched. ``negative``: an answer that
is known to be unusable. ``coalesced``: the answer of a call that another request or worker had begun.
``miss``, ``refresh`` and ``off``: a call of its own; with ``off`` its answer was not kept.
"""

HISTORY_SHOWN = 10
"""Latest items of the history that a prompt shows; older ones are left out (the paper's setting)."""


class Outcome(StrEnum):
    """How the stage ended; every value but the first three leaves the candidate model's order."""

    OK = "ok"
    REPAIRED = "repaired"  # something was invented, repeated, missing or in another form
    PARTIAL = "partial"  # the deadline came, and the beginning of the ranking had arrived
    FALLBACK_DEADLINE = "fallback_deadline"  # the deadline came before any usable text
    FALLBACK_PROVIDER = "fallback_provider"  # the provider failed, or is not called since it kept failing
    FALLBACK_ANSWER = "fallback_answer"  # the answer holds no ranking, or the model refused
    FALLBACK_LIMIT = "fallback_limit"  # no permit, or no turn of the quota per minute, came in time
    FALLBACK_BUDGET = "fallback_budget"  # the dollars of the hour or day are spent

    @property
    def good(self) -> bool:
        """Whether a whole answer could be used; only such answers are cached for long."""
        return self in (Outcome.OK, Outcome.REPAIRED)


@dataclass(frozen=True, slots=True)
class Shown:
    """Numbers of the history's items that a prompt showed by title, by image and by caption.

    ``without_image`` is the number of those whose image was to be shown, and is not there or not readable.
    """

    titles: int = 0
    images: int = 0
    captions: int = 0
    without_image: int = 0


@dataclass(frozen=True, slots=True)
class StageRequest:
    """A request for one ranking by an LVLM.

    Attributes:
        strategy: strategy that decides the task and the view of the history.
        history: item rows, oldest first.
        pool: item rows to rank, in the candidate model's order; at least one, without duplicates.
        k: number of items that the client will be shown, at least 1; in the label form the LVLM is asked for
            no more.
        provider: configured name of the provider.
        model: the provider's name for the model.
        modality: parts of an item that the raw view shows; the enhanced view ignores it.
        image_mode: arrangement of the history's pictures.
        form: form of the prompt and the answer.
        cache: use of the answer cache.
        explain: whether to ask for an explanation.
        deadline: seconds from now until the answer is needed, above 0.
        backbone_version: version of the backbone that ordered the pool.
        alternatives: providers and models to ask in this order if the first one cannot answer.
        owner: user whom the answer is about, as ``owner_of`` names users; None for a request without a user.
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
    owner: str | None = None

    @property
    def shows_images(self) -> bool:
        """Whether the prompt is to show images of the history."""
        return self.strategy.view == "raw" and "image" in self.modality


@dataclass(frozen=True, slots=True)
class StageOptions:
    """The deployment's options, which hold for all requests.

    Attributes:
        stream: whether to ask for server-sent events, so that a deadline finds the beginning of a ranking.
        max_output_tokens: tokens of an answer at most; far more than a ranking has, since the thoughts of
            reasoning models count too.
        call_seconds: seconds for which a call may go on after its request's deadline, to fill the cache.
        closing_seconds: seconds for which running calls may go on when the service stops, since they are
            paid for.
    """

    stream: bool = True
    max_output_tokens: int = 2_048
    call_seconds: float = 60.0
    closing_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """The usable part of a model's text, with counts of what was wrong with it.

    Attributes:
        order: positions in the pool as the prompt showed it, from 0, best first, without duplicates.
        invented: number of entries that are not in the pool.
        duplicated: number of entries that repeat an earlier one.
        missing: number of items that were asked for and not answered.
        explanation: explanation of this order, cleaned, capped and HTML-escaped; None without one.
        form: whether the text was in another form than the one asked for.
    """

    order: tuple[int, ...]
    invented: int
    duplicated: int
    missing: int
    explanation: str | None = None
    form: bool = False

    @property
    def repaired(self) -> bool:
        """Whether anything was wrong with the text that the parser repaired."""
        return bool(self.invented or self.duplicated or self.missing or self.form)


@dataclass(frozen=True, slots=True)
class Responder:
    """The model that answered, or that was asked last.

    Attributes:
        provider: configured name of the provider; empty before any model is asked.
        model: the provider's name for the model; empty before any model is asked.
        simulated: whether the simulator answered, whatever the provider is called.
        blind: whether the pictures were left out, since the server accepts none.
    """

    provider: str = ""
    model: str = ""
    simulated: bool = False
    blind: bool = False

    @property
    def reported_as(self) -> str:
        """The provider's name in answers; the simulator's name whenever it answered."""
        return SIMULATOR if self.simulated else self.provider


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """An answer with its outcome: the record that the cache keeps, equal requests share, and a result holds.

    Attributes:
        parsed: usable part of the text; its order is empty if nothing can be used.
        outcome: outcome of the stage with this answer.
        shown: numbers of items that the prompt showed; None if no prompt was built.
        responder: model that answered.
    """

    parsed: ParsedAnswer
    outcome: Outcome
    shown: Shown | None = None
    responder: Responder = field(default_factory=Responder)


@dataclass(frozen=True, slots=True)
class StageResult:
    """The LVLM's order of a pool, the answer behind it, and the bill.

    Attributes:
        order: item rows that the LVLM ranked, best first: a subset of the pool without duplicates, empty on a
            fallback. The caller continues with the candidate model's order.
        answer: answer behind the order. Where no model was asked, its responder has the names of the one
            that the request wanted. It has an explanation only if the request wanted one.
        cache: what the answer cache did.
        bill: bill of this request's own attempts; empty for an answer from the cache or from another
            request's call.
        caption_calls: number of background calls begun for missing captions; their usage is in no answer,
            but in the metrics and the budgets.
        warnings: sentences for the client.
        seconds: seconds per step: ``prompt``, ``cache``, ``lvlm``.
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
        """Numbers of items that the prompt showed; zeros if no prompt was built."""
        return self.answer.shown or Shown()
