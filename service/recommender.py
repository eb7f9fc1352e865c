"""The one function that tells the story: history, candidates, strategy, recommendation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from service.bundle import Catalogue
from service.candidates.base import CandidateModel
from service.choices import Choices
from service.errors import InvalidRequestError
from service.executor import BoundedExecutor
from service.histories import History, HistoryReader, name_some
from service.lvlm.contracts import StageRequest, StageResult
from service.metrics import Metrics
from service.schemas import RecommendBody, RecommendQuery
from service.stores.base import reading_time
from service.strategies import STRATEGIES, Strategy

POOL = 30
"""How many candidates the LVLM is shown unless the request brings its own (the paper's 1 + 29)."""

POPULARITY = "popularity"
OK = "ok"
COLD_START = "cold_start"


class Reranker(Protocol):
    """The LVLM stage as the recommender sees it."""

    async def rerank(
        self, request: StageRequest, placed: Callable[[Sequence[int]], None] | None = None
    ) -> StageResult:
        """Order a pool; never raises for what a provider does."""
        ...


class Watcher(Protocol):
    """Somebody who wants to see a recommendation while it is made."""

    def candidates(self, recommendation: Recommendation) -> None:
        """The candidate model's order is there."""
        ...

    def placed(self, recommendation: Recommendation, rows: Sequence[int]) -> None:
        """The LVLM has placed these rows so far, best first."""
        ...


@dataclass(slots=True)
class Recommendation:
    """Everything that an answer, a log line and the metrics say.

    Attributes:
        served: the strategy that really ordered the items.
        order: item rows in the candidate model's order.
        scores: of ``order``, row by row.
        source: what made ``order``: the backbone's name or ``popularity``.
        placed: rows that the LVLM put first, best first.
        seconds: stage -> wall time.
    """

    user_id: str | None
    k: int
    strategy: Strategy
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
    def ranking(self) -> list[int]:
        """The first ``k`` item rows: what the LVLM placed, then the candidate model's order."""
        if not self.placed:
            return self.order[: self.k]
        placed = set(self.placed)
        return [*self.placed, *(row for row in self.order if row not in placed)][: self.k]


class Recommender:
    """Answers requests about one catalogue."""

    def __init__(
        self,
        catalogue: Catalogue,
        choices: Choices,
        histories: HistoryReader,
        executor: BoundedExecutor,
        reranker: Reranker,
        metrics: Metrics,
        *,
        deadline: float,
    ) -> None:
        """Keep the parts; ``deadline`` is in seconds, for requests that do not bring their own."""
        self._catalogue = catalogue
        self._choices = choices
        self._histories = histories
        self._executor = executor
        self._reranker = reranker
        self._metrics = metrics
        self._deadline = deadline

    async def recommend(
        self, body: RecommendBody, query: RecommendQuery, watcher: Watcher | None = None
    ) -> Recommendation:
        """Recommend ``body.k`` items.

        Raises:
            InvalidRequestError: the request names something that is not there, or nothing to go by.
            OverloadedError: too many requests wait for the candidate model.
        """
        started = time.perf_counter()
        strategy = STRATEGIES[query.strategy]
        model = self._choices.backbone_for(query)
        lvlm = self._choices.lvlm_for(query)
        deadline = self._deadline if body.deadline_ms is None else body.deadline_ms / 1000
        history = await self._history(body, reading_time(deadline))
        after_history = time.perf_counter()
        recommendation = await self._candidates(body, strategy, model, history)
        after_candidates = time.perf_counter()
        recommendation.seconds["history"] = after_history - started
        recommendation.seconds["candidates"] = after_candidates - after_history
        if watcher:
            watcher.candidates(recommendation)
        if strategy.asks_lvlm and history.rows and recommendation.order:
            left = max(0.0, started + deadline - after_candidates)
            await self._rerank(recommendation, body, query, history, lvlm, left, watcher)
        if len(recommendation.order) < body.k:
            found = len(recommendation.order)
            recommendation.warnings.append(f"{found} items exist for this request and k is {body.k}")
        for stage, seconds in recommendation.seconds.items():
            self._metrics.stage(stage, strategy.name).observe(seconds)
        recommendation.seconds["total"] = time.perf_counter() - started
        return recommendation

    async def _history(self, body: RecommendBody, patience: float) -> History:
        if body.history is not None:
            return self._histories.given(body.history)
        if body.user_id is None:
            raise InvalidRequestError("give a user_id, a history or both")
        return await self._histories.stored(body.user_id, patience)

    async def _candidates(
        self, body: RecommendBody, strategy: Strategy, model: CandidateModel, history: History
    ) -> Recommendation:
        rows = self._catalogue.rows
        excluded = {rows[item_id] for item_id in body.exclude if item_id in rows}
        given, warnings = self._given(body, excluded)
        wanted = max(body.k, POOL) if strategy.asks_lvlm else body.k
        outcome, served, source = OK, "none" if strategy.asks_lvlm else strategy.name, model.manifest.name
        user = None if body.user_id is None else self._catalogue.histories.users.get(body.user_id)
        cold = not history.rows and not model.knows(user)
        warnings.extend(() if cold else model.warnings(user))
        if cold:
            outcome, served, source = COLD_START, "none", POPULARITY
            order, scores = self._popular(given, excluded, wanted)
            warnings.append("nothing is known to go by: popular items")
        elif given is None:
            left_out = excluded if body.include_seen else excluded | set(history.rows)
            order, scores = await self._executor.run(model.top, user, history.rows, wanted, list(left_out))
        elif given:
            order, scores = _sorted(given, await self._executor.run(model.score, user, history.rows, given))
        else:
            order, scores = [], []
        return Recommendation(
            user_id=body.user_id,
            k=body.k,
            strategy=strategy,
            served=served,
            outcome=outcome,
            model=model,
            order=order,
            scores=scores,
            source=source,
            warnings=[*history.warnings, *warnings],
        )

    def _given(self, body: RecommendBody, excluded: set[int]) -> tuple[list[int] | None, list[str]]:
        """The rows of the request's candidates, each once and without excluded ones; None if it has none."""
        if body.candidates is None:
            return None, []
        rows = self._catalogue.rows
        unknown = [item_id for item_id in body.candidates if item_id not in rows]
        if unknown:
            raise InvalidRequestError(f"unknown candidates: {name_some(unknown)}")
        given = [rows[item_id] for item_id in dict.fromkeys(body.candidates)]
        repeated = len(body.candidates) - len(given)
        warnings = [f"{repeated} repeated candidates left out"] if repeated else []
        return [row for row in given if row not in excluded], warnings

    def _popular(
        self, given: Sequence[int] | None, excluded: set[int], wanted: int
    ) -> tuple[list[int], list[float]]:
        popularity = self._catalogue.popularity
        if given is not None:
            return _sorted(given, popularity[list(given)].astype(float).tolist())
        order: list[int] = []
        for row in self._catalogue.popular:
            if len(order) == wanted:
                break
            if int(row) not in excluded:
                order.append(int(row))
        return order, popularity[order].astype(float).tolist()

    async def _rerank(
        self,
        recommendation: Recommendation,
        body: RecommendBody,
        query: RecommendQuery,
        history: History,
        lvlm: tuple[str, str],
        deadline: float,
        watcher: Watcher | None,
    ) -> None:
        pool = recommendation.order if body.candidates is not None else recommendation.order[:POOL]
        provider, model = lvlm
        result = await self._reranker.rerank(
            StageRequest(
                strategy=recommendation.strategy,
                history=tuple(history.rows),
                pool=tuple(pool),
                k=min(body.k, len(pool)),
                provider=provider,
                model=model,
                modality=query.modality,
                image_mode=query.image_mode,
                form=query.prompt,
                cache=query.cache,
                explain=query.explain,
                deadline=deadline,
                backbone_version=recommendation.model.manifest.version,
                alternatives=self._choices.alternatives_for(query),
            ),
            partial(watcher.placed, recommendation) if watcher else None,
        )
        recommendation.lvlm = result
        recommendation.outcome = result.outcome
        recommendation.placed = result.order
        if result.order:
            recommendation.served = recommendation.strategy.name
        recommendation.warnings.extend(result.warnings)
        recommendation.seconds.update(result.seconds)


def _sorted(rows: Sequence[int], scores: Sequence[float]) -> tuple[list[int], list[float]]:
    """Best first; equal scores by row, so that the order of a request's candidates does not matter."""
    places = np.lexsort((np.asarray(rows), -np.asarray(scores)))
    return [rows[place] for place in places], [scores[place] for place in places]
