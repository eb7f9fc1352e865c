"""Makes a recommendation: reads the history, ranks candidates and, if the strategy says so, reranks them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from service.candidates.base import CandidateModel
from service.catalogue.bundle import Catalogue
from service.catalogue.histories import History, HistoryReader, given_history, list_ids
from service.errors import InvalidRequestError
from service.executor import BoundedExecutor
from service.generation import Generation
from service.lvlm.contracts import (
    CacheUse,
    Form,
    ImageMode,
    Modality,
    Outcome,
    StageRequest,
    StageResult,
)
from service.lvlm_selection import LvlmChoices
from service.metrics import Metrics
from service.stores.base import owner_of, store_read_timeout
from service.strategies import Strategy

POOL_SIZE = 30
"""Candidates that the LVLM orders unless the request brings its own; later ones keep the candidate model's
order. The paper's pool: 1 target and 29 negatives."""

POPULARITY = "popularity"
"""The ``source`` of items that are ranked by their interactions, without a candidate model."""
OK = "ok"
"""Outcome of a request that the candidate model answers as asked; LVLM strategies have an ``Outcome``."""
COLD_START = "cold_start"
"""Outcome of a request without a usable history: popular items, or no history that an LVLM could be shown."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RecommendationRequest:
    """Whom to recommend to and how, independent of HTTP.

    Attributes:
        strategy: one of the six in ``STRATEGIES``.
        user_id: user of the bundle or of earlier events.
        history: item ids, oldest first, instead of the stored history; None for the stored one.
        candidates: item ids to rank, and no others; None for the best of the catalogue.
        exclude: item ids that must not be in the answer.
        include_seen: whether items of the history may be recommended again.
        k: number of items wanted, at least 1.
        deadline: seconds for the whole answer, at least 0; None for the deployment's own.
        backbone: name of the backbone that makes the candidates; None for the strategy's default.
        provider: configured name of the LVLM's provider; None for the default.
        model: model of that provider; None for its default.
        modality: parts of an item that the raw view shows.
        image_mode: arrangement of the history's images: one grid, one strip, or each by itself.
        form: form of the prompt: short labels, or the paper's titles.
        cache: use of the answer cache.
        explain: whether the LVLM is asked for an explanation.
    """

    strategy: Strategy
    user_id: str | None = None
    history: Sequence[str] | None = None
    candidates: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    include_seen: bool = False
    k: int = 10
    deadline: float | None = None
    backbone: str | None = None
    provider: str | None = None
    model: str | None = None
    modality: Modality = "title+image"
    image_mode: ImageMode = "grid"
    form: Form = "label"
    cache: CacheUse = "use"
    explain: bool = False


class Reranker(Protocol):
    """Orders a pool of items with an LVLM; the LVLM stage implements it."""

    async def rerank(
        self,
        request: StageRequest,
        catalogue: Catalogue,
        on_prefix: Callable[[Sequence[int]], None] | None = None,
    ) -> StageResult:
        """Orders the pool of the request. A provider's failure is an outcome of the result, not an exception.

        Args:
            request: history and pool, as rows of the catalogue.
            catalogue: catalogue that the rows belong to.
            on_prefix: called with all rows placed so far, best first, while the answer streams in.
        """
        ...


class Listener(Protocol):
    """Receives a recommendation while it is made."""

    def candidates(self, recommendation: Recommendation) -> None:
        """Receives the candidate model's order, once, before anything else."""
        ...

    def placed(self, recommendation: Recommendation, rows: Sequence[int]) -> None:
        """Receives all rows that the LVLM has placed so far, best first, whenever there are more."""
        ...


@dataclass(slots=True)
class Recommendation:
    """A recommendation, with everything that its answer, its log line and the metrics say.

    Attributes:
        request: request that it answers.
        generation: catalogue and models that the request reads from its beginning to its answer.
        served: name of the strategy that really ordered the items.
        outcome: ``ok``, ``cold_start`` or an ``Outcome`` of the LVLM stage.
        model: candidate model that was chosen; it made ``order`` unless ``source`` is ``popularity``.
        order: item rows in the candidate model's order.
        scores: scores of ``order``, row by row.
        source: name of what made ``order``: the backbone or ``popularity``.
        placed: rows that the LVLM has ordered, best first; they come before the rest of ``order``.
        lvlm: result of the LVLM stage; None where it was not asked, or raised an error.
        warnings: sentences for the client.
        seconds: wall-clock time in seconds, by stage.
    """

    request: RecommendationRequest
    generation: Generation
    served: str
    outcome: str
    model: CandidateModel
    order: list[int]
    scores: list[float]
    source: str
    placed: tuple[int, ...] = ()
    lvlm: StageResult | None = None
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def strategy(self) -> Strategy:
        """The strategy that was asked for."""
        return self.request.strategy

    @property
    def k(self) -> int:
        """How many items were asked for."""
        return self.request.k

    @property
    def ranking(self) -> list[int]:
        """The first ``k`` item rows: what the LVLM placed, then the candidate model's order."""
        if not self.placed:
            return self.order[: self.k]
        placed = set(self.placed)
        return [*self.placed, *(row for row in self.order if row not in placed)][: self.k]


@dataclass(slots=True)
class _Reranking:
    """One request to the LVLM stage, and what of its result has been passed on already.

    Attributes:
        recommendation: recommendation with the candidate model's order, which the LVLM's result is added to.
        history: item rows, oldest first; at least one.
        provider: configured name of the LVLM's provider.
        model: model of that provider.
        deadline: seconds that are left of the request's deadline, at least 0.
        listener: receives what the LVLM places; None for a client that awaits the whole answer.
        passed_on: rows that the listener has received, best first.
    """

    recommendation: Recommendation
    history: Sequence[int]
    provider: str
    model: str
    deadline: float
    listener: Listener | None = None
    passed_on: tuple[int, ...] = ()

    @property
    def pool(self) -> tuple[int, ...]:
        """Rows for the LVLM, in the candidate model's order: all that the request gave, else the top 30."""
        order = self.recommendation.order
        return tuple(order if self.recommendation.request.candidates is not None else order[:POOL_SIZE])

    def pass_on(self, rows: Sequence[int]) -> None:
        """Passes the rows that the LVLM has placed so far on to the listener."""
        assert self.listener is not None
        self.passed_on = tuple(rows)
        self.listener.placed(self.recommendation, rows)


class Recommender:
    """Answers requests; the caller gives each one the generation that it reads."""

    def __init__(
        self,
        lvlms: LvlmChoices,
        histories: HistoryReader,
        executor: BoundedExecutor,
        reranker: Reranker,
        metrics: Metrics,
        *,
        deadline: float,
    ) -> None:
        """Takes the parts; ``deadline`` is in seconds, for requests without one of their own."""
        self._lvlms = lvlms
        self._histories = histories
        self._executor = executor
        self._reranker = reranker
        self._metrics = metrics
        self._deadline = deadline

    async def recommend(
        self, request: RecommendationRequest, generation: Generation, listener: Listener | None = None
    ) -> Recommendation:
        """Recommends ``request.k`` items of a generation.

        Raises:
            InvalidRequestError: the request names something that does not exist, or neither user nor history.
            OverloadedError: too many requests wait for the candidate model.
        """
        started = time.perf_counter()
        model = generation.model_for(request.strategy, request.backbone)
        provider, lvlm = self._lvlms.choose(request.provider, request.model)
        deadline = self._deadline if request.deadline is None else request.deadline
        history = await self._history(request, generation.catalogue, store_read_timeout(deadline))
        after_history = time.perf_counter()
        recommendation = await self._candidates(request, generation, model, history)
        after_candidates = time.perf_counter()
        recommendation.seconds["history"] = after_history - started
        recommendation.seconds["candidates"] = after_candidates - after_history
        if listener:
            listener.candidates(recommendation)
        if request.strategy.asks_lvlm and history.rows and recommendation.order:
            left = max(0.0, started + deadline - after_candidates)
            await self._rerank(_Reranking(recommendation, history.rows, provider, lvlm, left, listener))
        if (found := len(recommendation.order)) < request.k:
            recommendation.warnings.append(f"{found} items exist for this request and k is {request.k}")
        for stage, seconds in recommendation.seconds.items():
            self._metrics.stage(stage, request.strategy.name).observe(seconds)
        # Set after the loop: the total is no stage of the metric.
        recommendation.seconds["total"] = time.perf_counter() - started
        return recommendation

    async def _history(
        self, request: RecommendationRequest, catalogue: Catalogue, max_wait: float
    ) -> History:
        if request.history is not None:
            return given_history(catalogue, request.history)
        if request.user_id is None:
            raise InvalidRequestError("give a user_id, a history or both")
        return await self._histories.stored(catalogue, request.user_id, max_wait)

    async def _candidates(
        self,
        request: RecommendationRequest,
        generation: Generation,
        model: CandidateModel,
        history: History,
    ) -> Recommendation:
        catalogue, strategy = generation.catalogue, request.strategy
        rows = catalogue.rows
        excluded = {rows[item_id] for item_id in request.exclude if item_id in rows}
        given, warnings = _given(request, catalogue, excluded)
        wanted = max(request.k, POOL_SIZE) if strategy.asks_lvlm else request.k
        # Until the LVLM has placed an item, the order served is the candidate model's: strategy "none".
        outcome, served, source = OK, "none" if strategy.asks_lvlm else strategy.name, model.manifest.name
        user = None if request.user_id is None else catalogue.histories.users.get(request.user_id)
        cold = not history.rows and not model.knows(user)
        warnings.extend(() if cold else model.warnings(user))
        if strategy.asks_lvlm and not history.rows and not cold:  # the model knows the user by a vector alone
            outcome = COLD_START
            warnings.append("no history to show the LVLM: the candidate model's order")
        if cold:
            outcome, served, source = COLD_START, "none", POPULARITY
            order, scores = _popular(catalogue, given, excluded, wanted)
            warnings.append("nothing is known to go by: popular items")
        elif given is None:
            left_out = excluded if request.include_seen else excluded | set(history.rows)
            order, scores = await self._executor.run(model.top, user, history.rows, wanted, list(left_out))
        elif given:
            # Candidates that the request gives are ranked even if the history holds them.
            order, scores = _sorted(given, await self._executor.run(model.score, user, history.rows, given))
        else:  # all that were given are excluded
            order, scores = [], []
        return Recommendation(
            request=request,
            generation=generation,
            served=served,
            outcome=outcome,
            model=model,
            order=order,
            scores=scores,
            source=source,
            warnings=[*history.warnings, *warnings],
        )

    async def _rerank(self, reranking: _Reranking) -> None:
        """Lets the LVLM order the pool.

        A provider's failure is an outcome of the stage. If the stage itself raises an error, the items that
        were already passed on stay first, and the candidate model's order follows.
        """
        recommendation = reranking.recommendation
        try:
            result = await self._reranked(reranking)
        except Exception:
            log.exception("the LVLM stage broke: the candidate model's order goes on")
            recommendation.placed = reranking.passed_on  # a client that saw them keeps them first
            recommendation.outcome = Outcome.PARTIAL if reranking.passed_on else Outcome.FALLBACK_PROVIDER
            recommendation.warnings.append("the LVLM stage broke: the candidate model's order goes on")
            # The stage counts its fallbacks at its end, which it did not reach.
            self._metrics.fallbacks.labels(str(recommendation.outcome)).inc()
        else:
            recommendation.lvlm = result
            recommendation.placed = result.order
            recommendation.outcome = result.outcome
            recommendation.warnings.extend(result.warnings)
            recommendation.seconds.update(result.seconds)
        if recommendation.placed:
            recommendation.served = recommendation.strategy.name

    async def _reranked(self, reranking: _Reranking) -> StageResult:
        recommendation, request = reranking.recommendation, reranking.recommendation.request
        pool = reranking.pool
        return await self._reranker.rerank(
            StageRequest(
                strategy=request.strategy,
                history=tuple(reranking.history),
                pool=pool,
                k=min(request.k, len(pool)),
                provider=reranking.provider,
                model=reranking.model,
                modality=request.modality,
                image_mode=request.image_mode,
                form=request.form,
                cache=request.cache,
                explain=request.explain,
                deadline=reranking.deadline,
                backbone_version=recommendation.model.manifest.version,
                alternatives=self._lvlms.alternatives_for(request.provider, request.model),
                owner=None if request.user_id is None else owner_of(request.user_id),
            ),
            recommendation.generation.catalogue,
            reranking.pass_on if reranking.listener else None,
        )


def _given(
    request: RecommendationRequest, catalogue: Catalogue, excluded: set[int]
) -> tuple[list[int] | None, list[str]]:
    """Returns the rows of the request's candidates and warnings about them.

    Each row comes once, and excluded ones are left out; None for a request without candidates.
    """
    if request.candidates is None:
        return None, []
    rows = catalogue.rows
    unknown = [item_id for item_id in request.candidates if item_id not in rows]
    if unknown:
        raise InvalidRequestError(f"unknown candidates: {list_ids(unknown)}")
    given = [rows[item_id] for item_id in dict.fromkeys(request.candidates)]
    repeated = len(request.candidates) - len(given)
    warnings = [f"{repeated} repeated candidates left out"] if repeated else []
    return [row for row in given if row not in excluded], warnings


def _popular(
    catalogue: Catalogue, given: Sequence[int] | None, excluded: set[int], wanted: int
) -> tuple[list[int], list[float]]:
    """Returns the rows with the most interactions, of those given if any are, and the counts as scores."""
    popularity = catalogue.popularity
    if given is not None:
        return _sorted(given, popularity[list(given)].astype(float).tolist())
    order: list[int] = []
    for row in catalogue.popular:
        if len(order) == wanted:
            break
        if int(row) not in excluded:
            order.append(int(row))
    return order, popularity[order].astype(float).tolist()


def _sorted(rows: Sequence[int], scores: Sequence[float]) -> tuple[list[int], list[float]]:
    """Sorts best first, equal scores by row, so that the order of a request's candidates does not matter."""
    positions = np.lexsort((np.asarray(rows), -np.asarray(scores)))
    return [rows[position] for position in positions], [scores[position] for position in positions]
