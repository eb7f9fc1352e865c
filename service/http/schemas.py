"""The JSON of requests and answers. Docstrings and descriptions here are part of the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from models.contracts.ids import MAX_ID_CHARACTERS
from service.lvlm.contracts import CacheResult, CacheUse, Form, ImageMode, Modality
from service.strategies import StrategyName

Id = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_CHARACTERS)]
_Name = Annotated[str, StringConstraints(max_length=MAX_ID_CHARACTERS)]

MAX_CANDIDATES = 100
"""Candidates that a request may bring; more are refused."""
MAX_ITEMS = 2_000
"""Items that a history, or a list to exclude, may have; more are refused."""
MAX_EVENTS = 1_000
"""Events that a batch may have; more are refused."""

WHEN_TOO_MANY = {
    "history": f"send the newest {MAX_ITEMS}",
    "exclude": f"send the newest {MAX_ITEMS}, what the history holds is left out anyway",
    "candidates": f"send the best {MAX_CANDIDATES}, or none to have the whole catalogue ranked",
    "events": f"send them in batches of {MAX_EVENTS}",
}
"""What a client can do when a list is too long, by the name of its field."""


class _Request(BaseModel):
    # Strict, and unknown fields refused: a misspelt field must not silently do nothing.
    model_config = ConfigDict(extra="forbid", strict=True)


class RecommendBody(_Request):
    """Whom to recommend to. ``user_id``, ``history`` or both are required."""

    user_id: Id | None = Field(None, description="A user of the bundle or of earlier events")
    # A list is refused at its first fault: messages about thousands of them take 20 ms.
    history: list[Id] | None = Field(
        None,
        max_length=MAX_ITEMS,
        fail_fast=True,
        description="Item ids, oldest first; replaces the stored history",
    )
    candidates: list[Id] | None = Field(
        None, min_length=1, max_length=MAX_CANDIDATES, fail_fast=True, description="Rank these and no others"
    )
    exclude: list[Id] = Field([], max_length=MAX_ITEMS, fail_fast=True, description="Never answer these")
    include_seen: bool = Field(False, description="Also recommend what the history holds")
    k: int = Field(10, ge=1, le=100, description="How many items to answer")
    deadline_ms: int | None = Field(
        None, ge=0, le=300_000, description="Milliseconds for the whole answer; default MSR_DEADLINE_MS"
    )


class RecommendQuery(_Request):
    """How to recommend."""

    # Not strict, since all values of a query string are text; frozen, since equal queries share one object.
    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)

    strategy: StrategyName = "none"
    backbone: _Name | None = Field(
        None,
        description="One of the bundle's, `pop` or `random`; default MSR_BACKBONE, else the best raw one",
    )
    provider: _Name | None = None
    model: _Name | None = None
    modality: Modality = "title+image"
    image_mode: ImageMode = "grid"
    prompt: Form = "label"  # `form` in the code: a prompt is what the LVLM reads
    cache: CacheUse = "use"
    explain: bool = False


class Event(_Request):
    """One user took one item."""

    user_id: Id
    item_id: Id
    timestamp: int = Field(
        ge=0,
        le=4_102_444_800,
        description="Seconds since 1970, at most a day ahead; events are in this order",
    )
    event_id: Id | None = Field(
        None, description="Makes a repeat harmless; without it, user, item and timestamp do"
    )


class EventsBody(_Request):
    """A batch, stored completely or not at all."""

    events: list[Event] = Field(min_length=1, max_length=MAX_EVENTS)


class EventsAnswer(BaseModel):
    """What became of a batch.

    ``stored``: new events. ``repeated``: those that were there already. ``dropped``: events that went because
    the newest 2,000 of a user are kept.
    """

    stored: int
    repeated: int
    dropped: int


class ForgottenAnswer(BaseModel):
    """What was forgotten of a user.

    ``forgotten``: whether there were events or cached answers. ``bundle_history``: whether the bundle still
    holds a history of this user, which stays until the bundle is made again without it.
    """

    forgotten: bool
    bundle_history: bool


class BackboneAnswer(BaseModel):
    """The recommender that made the candidates."""

    name: str
    version: str
    family: str


class RankedItem(BaseModel):
    """One recommended item.

    ``score`` is the candidate model's, or the interaction count for a cold start; ``base_rank`` the place
    in the candidate model's order; ``source`` what placed the item here: ``lvlm``, the backbone's name or
    ``popularity``.
    """

    item_id: str
    rank: int
    score: float
    base_rank: int
    source: str
    title: str
    image_url: str | None


class ShownAnswer(BaseModel):
    """What of the history the LVLM really saw, in numbers of items.

    ``without_image``: items whose picture was to be shown, and is not there or not readable.
    """

    titles: int
    images: int
    captions: int
    without_image: int


class LvlmAnswer(BaseModel):
    """What the LVLM stage did for this answer.

    ``simulated``: the simulator answered, or was asked, and what it cost is a rehearsal. ``caption_calls``:
    calls begun in the background for captions that are missing, paid besides ``cost_usd``.
    """

    provider: str
    model: str
    simulated: bool
    cache: CacheResult
    shown: ShownAnswer
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    estimated: bool
    caption_calls: int
    invented: int
    duplicated: int
    missing: int


class TimingsAnswer(BaseModel):
    """Milliseconds by stage."""

    history: float
    candidates: float
    prompt: float
    cache: float
    lvlm: float
    total: float


class RecommendAnswer(BaseModel):
    """The first ``k`` of a permutation of the pool, and how it came about."""

    request_id: str
    user_id: str | None
    strategy: StrategyName
    served: StrategyName
    outcome: str
    backbone: BackboneAnswer
    items: list[RankedItem]
    explanation: str | None
    lvlm: LvlmAnswer | None
    warnings: list[str]
    timings_ms: TimingsAnswer


class ItemAnswer(BaseModel):
    """One item of the catalogue."""

    item_id: str
    title: str
    categories: list[str]
    image_url: str | None
    captions: dict[str, str]
    popularity: int


class ItemsAnswer(BaseModel):
    """A page of items; ``next`` is the ``after`` of the following page."""

    items: list[ItemAnswer]
    next: str | None


class UserAnswer(BaseModel):
    """One user of the bundle."""

    user_id: str
    interactions: int


class UsersAnswer(BaseModel):
    """A page of users; ``next`` is the ``after`` of the following page."""

    users: list[UserAnswer]
    next: str | None


class HistoryAnswer(BaseModel):
    """A user's items, oldest first, events included."""

    user_id: str
    items: list[ItemAnswer]
    warnings: list[str]


class HealthAnswer(BaseModel):
    """Whether the service can answer, and what it has to do without."""

    status: Literal["alive", "ready"]
    degraded: list[str] = []
    version: str
    bundle: dict[str, Any] = {}


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str | None = None
    errors: list[dict[str, str]] | None = None
