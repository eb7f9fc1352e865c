"""The one function that tells the story: history, candidates, strategy, answer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from service.bundle import Catalogue
from service.candidates import CandidateModel
from service.errors import InvalidRequestError
from service.executor import BoundedExecutor
from service.histories import History, HistoryReader, name_some
from service.lvlm.stage import StageRequest, StageResult
from service.links import image_url
from service.metrics import NONE, Metrics
from service.schemas import RecommendBody, RecommendQuery
from service.strategies import STRATEGIES, Strategy

POOL = 30
"""How many candidates the LVLM is shown unless the request brings its own (the paper's 1 + 29)."""

POPULARITY = "popularity"
COLD_START = "cold_start"
OK = "ok"


class Reranker(Protocol):
    """The LVLM stage as the recommender sees it."""

    async def rerank(self, request: StageRequest) -> StageResult:
        """Order a pool; never raises for what a provider does."""
        ...


@dataclass(slots=True)
class Recommendation:
    """Everything an answer, a log line and the metrics say.

    Attributes:
        order: item rows in the candidate model's order.
        scores: of ``order``, row by row.
        placed: rows that the LVLM put first, best first.
        source: what ordered the rest: the backbone's name or ``popularity``.
        seconds: stage -> wall time.
    """

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


class Recommender:
    """Answers one request with what the application has open."""

    def __init__(
        self,
        catalogue: Catalogue,
        models: Mapping[str, CandidateModel],
        default_backbone: str,
        histories: HistoryReader,
        executor: BoundedExecutor,
        reranker: Reranker,
        metrics: Metrics,
        lvlm_models: Mapping[str, Sequence[str]],
        default_provider: str,
        default_model: str,
        deadline: float,
    ) -> None:
        """Keep the parts.

        Args:
            default_backbone: the raw backbone used unless the request names one.
            lvlm_models: configured provider -> its models, the first being its default.
            deadline: seconds for a request that does not bring its own.
        """
        self._catalogue = catalogue
        self._models = models
        self._default_backbone = default_backbone
        self._histories = histories
        self._executor = executor
        self._reranker = reranker
        self._metrics = metrics
        self._lvlm_models = lvlm_models
        self._default_provider = default_provider
        self._default_model = default_model
        self._deadline = deadline

    async def recommend(self, body: RecommendBody, query: RecommendQuery) -> Recommendation:
        """Recommend ``body.k`` items.

        Raises:
            InvalidRequestError: the request names something that is not there, or nothing to go by.
            OverloadedError: too many requests wait for the candidate model.
        """
        started = time.perf_counter()
        strategy = STRATEGIES[query.strategy]
        model = self.model_for(query)
        provider, lvlm_model = self.lvlm_for(query)

        history = await self._history(body)
        after_history = time.perf_counter()
        recommendation = await self._candidates(body, strategy, model, history)
        recommendation.seconds = {
            "history": after_history - started,
            "candidates": time.perf_counter() - after_history,
        }
        if strategy.asks_lvlm and recommendation.outcome != COLD_START and recommendation.order:
            elapsed = time.perf_counter() - started
            deadline = self._deadline if body.deadline_ms is None else body.deadline_ms / 1000
            await self._rerank(recommendation, body, query, history, provider, lvlm_model, deadline - elapsed)
        if len(recommendation.order) < body.k:
            recommendation.warnings.append(
                f"{len(recommendation.order)} items exist for this request and k is {body.k}"
            )
        recommendation.seconds["total"] = time.perf_counter() - started
        for stage, seconds in recommendation.seconds.items():
            if stage != "total":
                self._metrics.stage_duration.labels(stage, strategy.name).observe(seconds)
        return recommendation

    def model_for(self, query: RecommendQuery) -> CandidateModel:
        """The backbone that a request asks for, by name or through its strategy.

        Raises:
            InvalidRequestError: the bundle has no such backbone.
        """
        strategy = STRATEGIES[query.strategy]
        if query.backbone is not None:
            model = self._models.get(query.backbone)
            if model is None:
                raise InvalidRequestError(
                    f"no backbone {query.backbone[:80]!r} in this bundle; it has {', '.join(self._models)}"
                )
            if strategy.backbone_view == "enhanced" and model.manifest.text_view != "enhanced":
                raise InvalidRequestError(
                    f"{strategy.name} answers from an enhanced backbone and {query.backbone!r} is raw"
                )
            return model
        if strategy.backbone_view == "raw":
            return self._models[self._default_backbone]
        for model in self._models.values():
            if model.manifest.text_view == "enhanced":
                return model
        raise InvalidRequestError(
            f"{strategy.name} answers from an enhanced backbone and this bundle has none: caption the images with "
            "`python -m service enhance`, train with `--text-view enhanced` and export into this bundle"
        )

    def lvlm_for(self, query: RecommendQuery) -> tuple[str, str]:
        """The provider and model that a request asks for.

        Raises:
            InvalidRequestError: not a configured one.
        """
        provider = query.provider if query.provider is not None else self._default_provider
        models = self._lvlm_models.get(provider)
        if models is None:
            raise InvalidRequestError(
                f"no provider {provider[:80]!r}; configured are {', '.join(self._lvlm_models)}"
            )
        if query.model is not None:
            if query.model not in models:
                raise InvalidRequestError(
                    f"no model {query.model[:80]!r} at {provider}; configured are {', '.join(models)}"
                )
            return provider, query.model
        return provider, self._default_model if provider == self._default_provider else models[0]

    async def _history(self, body: RecommendBody) -> History:
        if body.history is not None:
            return self._histories.given(body.history)
        if body.user_id is None:
            raise InvalidRequestError("give a user_id, a history or both")
        history = await self._histories.stored(body.user_id)
        if not history.known_user:
            return History([], False, (*history.warnings, "unknown user: nothing is known to go by"))
        return history

    async def _candidates(
        self, body: RecommendBody, strategy: Strategy, model: CandidateModel, history: History
    ) -> Recommendation:
        rows, warnings = self._given_candidates(body)
        warnings = [*history.warnings, *warnings]
        excluded = {self._catalogue.rows[i] for i in body.exclude if i in self._catalogue.rows}
        wanted = max(body.k, POOL) if strategy.asks_lvlm else body.k
        if rows is not None:
            rows = [row for row in rows if row not in excluded]
        if not history.rows:
            order = [row for row in (self._catalogue.popular if rows is None else self._by_popularity(rows))]
            order = [int(row) for row in order if row not in excluded][:wanted]
            scores = [float(count) for count in self._catalogue.popularity[order]] if order else []
            warnings.append("no usable history: popular items")
            return Recommendation(
                strategy, "none", COLD_START, model, order, scores, POPULARITY, warnings=warnings
            )
        if rows is None:
            left_out = excluded if body.include_seen else excluded | set(history.rows)
            order, scores = await self._executor.run(model.top, history.rows, wanted, sorted(left_out))
        elif rows:
            order, scores = _sorted(rows, await self._executor.run(model.score, history.rows, rows))
        else:
            order, scores = [], []
        served = strategy.name if not strategy.asks_lvlm else "none"
        return Recommendation(
            strategy, served, OK, model, order, scores, model.manifest.name, warnings=warnings
        )

    def _given_candidates(self, body: RecommendBody) -> tuple[list[int] | None, list[str]]:
        if body.candidates is None:
            return None, []
        unknown = [item_id for item_id in body.candidates if item_id not in self._catalogue.rows]
        if unknown:
            raise InvalidRequestError(f"unknown candidates: {name_some(unknown)}")
        rows = [self._catalogue.rows[item_id] for item_id in dict.fromkeys(body.candidates)]
        repeated = len(body.candidates) - len(rows)
        return rows, [f"{repeated} repeated candidates left out"] if repeated else []

    def _by_popularity(self, rows: Sequence[int]) -> list[int]:
        popularity = self._catalogue.popularity
        return sorted(rows, key=lambda row: (-int(popularity[row]), row))

    async def _rerank(
        self,
        recommendation: Recommendation,
        body: RecommendBody,
        query: RecommendQuery,
        history: History,
        provider: str,
        lvlm_model: str,
        deadline: float,
    ) -> None:
        pool = recommendation.order if body.candidates is not None else recommendation.order[:POOL]
        result = await self._reranker.rerank(
            StageRequest(
                strategy=recommendation.strategy,
                history=tuple(history.rows),
                pool=tuple(pool),
                k=min(body.k, len(pool)),
                provider=provider,
                model=lvlm_model,
                modality=query.modality,
                image_mode=query.image_mode,
                form=query.prompt,
                cache=query.cache,
                explain=query.explain,
                deadline=max(0.0, deadline),
                backbone_version=recommendation.model.manifest.version,
            )
        )
        recommendation.lvlm = result
        recommendation.outcome = result.outcome
        recommendation.placed = result.order
        if result.order:
            recommendation.served = recommendation.strategy.name
        recommendation.warnings.extend(result.warnings)
        recommendation.seconds.update(result.seconds)

    def answer(
        self, recommendation: Recommendation, body: RecommendBody, request_id: str
    ) -> dict[str, Any]:
        """The JSON of ``RecommendAnswer``, as a plain dict (validated by tests, not per request)."""
        manifest = recommendation.model.manifest
        seconds = recommendation.seconds
        lvlm = recommendation.lvlm
        return {
            "request_id": request_id,
            "user_id": body.user_id,
            "strategy": recommendation.strategy.name,
            "served": recommendation.served,
            "outcome": str(recommendation.outcome),
            "backbone": {"name": manifest.name, "version": manifest.version, "family": manifest.family},
            "items": self._items(recommendation, body.k),
            "explanation": lvlm.explanation if lvlm else None,
            "lvlm": None if lvlm is None else _lvlm_answer(lvlm),
            "warnings": recommendation.warnings,
            "timings_ms": {
                stage: round(seconds.get(stage, 0.0) * 1000, 3)
                for stage in ("history", "candidates", "prompt", "cache", "lvlm", "total")
            },
        }

    def _items(self, recommendation: Recommendation, k: int) -> list[dict[str, Any]]:
        base = {row: place for place, row in enumerate(recommendation.order)}
        placed = recommendation.placed
        rest = recommendation.order
        if placed:
            chosen = set(placed)
            rest = [*placed, *(row for row in recommendation.order if row not in chosen)]
        items = []
        for rank, row in enumerate(rest[:k], start=1):
            item = self._catalogue.items[row]
            place = base[row]
            items.append(
                {
                    "item_id": item.item_id,
                    "rank": rank,
                    "score": recommendation.scores[place],
                    "base_rank": place + 1,
                    "source": "lvlm" if rank <= len(placed) else recommendation.source,
                    "title": item.name,
                    "image_url": image_url(item.item_id) if item.image else None,
                }
            )
        return items

    @staticmethod
    def labels(recommendation: Recommendation) -> dict[str, str]:
        """The labels of the request histogram."""
        lvlm = recommendation.lvlm
        return {
            "strategy": recommendation.strategy.name,
            "backbone": recommendation.model.manifest.name,
            "model": lvlm.model if lvlm else NONE,
            "cache": lvlm.cache if lvlm else NONE,
            "outcome": str(recommendation.outcome),
        }


def _sorted(rows: Sequence[int], scores: Sequence[float]) -> tuple[list[int], list[float]]:
    """Best first; equal scores by row, so that the order of a request's candidates does not matter."""
    places = np.lexsort((rows, -np.asarray(scores)))
    return [rows[place] for place in places], [scores[place] for place in places]


def _lvlm_answer(lvlm: StageResult) -> dict[str, Any]:
    return {
        "provider": lvlm.provider,
        "model": lvlm.model,
        "cache": lvlm.cache,
        "shown": {"titles": lvlm.shown.titles, "images": lvlm.shown.images, "captions": lvlm.shown.captions},
        "input_tokens": lvlm.usage.input_tokens,
        "output_tokens": lvlm.usage.output_tokens,
        "cost_usd": lvlm.cost_usd,
        "estimated": lvlm.estimated,
        "invented": lvlm.invented,
        "duplicated": lvlm.duplicated,
        "missing": lvlm.missing,
    }
