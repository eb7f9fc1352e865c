"""Turns a recommendation into the JSON of an answer and into the labels of the request histogram."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from service.http.links import Links
from service.lvlm.contracts import StageResult
from service.lvlm.providers.registry import SIMULATORS
from service.metrics import NONE
from service.recommender import Recommendation

STAGES = ("history", "candidates", "prompt", "cache", "lvlm", "total")
"""Stages whose times an answer holds, 0 for one that did not run."""
LVLM = "lvlm"
"""The ``source`` of an item that the LVLM placed."""


def answer(recommendation: Recommendation, request_id: str, links: Links) -> dict[str, Any]:
    """Returns the JSON of ``RecommendAnswer`` as a dict, not validated: only tests spend time on that."""
    manifest = recommendation.model.manifest
    lvlm = recommendation.lvlm
    return {
        "request_id": request_id,
        "user_id": recommendation.request.user_id,
        "strategy": recommendation.strategy.name,
        "served": recommendation.served,
        "outcome": str(recommendation.outcome),
        "backbone": {"name": manifest.name, "version": manifest.version, "family": manifest.family},
        "items": _items(recommendation, links),
        "explanation": lvlm.answer.parsed.explanation if lvlm else None,
        "lvlm": None if lvlm is None else _lvlm(lvlm),
        "warnings": recommendation.warnings,
        "timings_ms": {stage: round(recommendation.seconds.get(stage, 0.0) * 1000, 3) for stage in STAGES},
    }


def candidates(recommendation: Recommendation, request_id: str, links: Links) -> dict[str, Any]:
    """Returns the first event of a stream: the candidate model's order, before the LVLM places anything."""
    manifest = recommendation.model.manifest
    return {
        "request_id": request_id,
        "user_id": recommendation.request.user_id,
        "strategy": recommendation.strategy.name,
        "backbone": {"name": manifest.name, "version": manifest.version, "family": manifest.family},
        "items": _items(recommendation, links),
        "warnings": list(recommendation.warnings),
    }


def placed_item(recommendation: Recommendation, row: int, rank: int, links: Links) -> dict[str, Any]:
    """Returns an item that the LVLM has placed, ``rank`` counting from 1."""
    return _item(recommendation, row, recommendation.order.index(row), rank, LVLM, links)


def labels(recommendation: Recommendation) -> dict[str, str]:
    """Returns the labels of the request histogram."""
    lvlm = recommendation.lvlm
    return {
        "strategy": recommendation.strategy.name,
        "backbone": recommendation.model.manifest.name,
        "model": lvlm.answer.responder.model if lvlm else NONE,
        "cache": lvlm.cache if lvlm else NONE,
        "outcome": str(recommendation.outcome),
    }


def _items(recommendation: Recommendation, links: Links) -> list[dict[str, Any]]:
    # The position in the candidate model's order, from 0: of its score, and of ``base_rank``.
    positions = {row: position for position, row in enumerate(recommendation.order)}
    placed = len(recommendation.placed)
    return [
        _item(
            recommendation,
            row,
            positions[row],
            rank,
            LVLM if rank <= placed else recommendation.source,
            links,
        )
        for rank, row in enumerate(recommendation.ranking, start=1)
    ]


def _item(
    recommendation: Recommendation, row: int, position: int, rank: int, source: str, links: Links
) -> dict[str, Any]:
    item = recommendation.generation.catalogue.items[row]
    return {
        "item_id": item.item_id,
        "rank": rank,
        "score": recommendation.scores[position],
        "base_rank": position + 1,
        "source": source,
        "title": item.name,
        "image_url": links.image_url(item.item_id) if item.image else None,
    }


def _lvlm(lvlm: StageResult) -> dict[str, Any]:
    parsed, responder, bill = lvlm.answer.parsed, lvlm.answer.responder, lvlm.bill
    return {
        "provider": responder.reported_as,
        "model": responder.model,
        "simulated": responder.reported_as in SIMULATORS,
        "cache": lvlm.cache,
        "shown": asdict(lvlm.shown),
        "input_tokens": bill.usage.input_tokens,
        "output_tokens": bill.usage.output_tokens,
        "cost_usd": bill.cost_usd,  # None without a price
        "estimated": bill.estimated,
        "caption_calls": lvlm.caption_calls,
        "invented": parsed.invented,
        "duplicated": parsed.duplicated,
        "missing": parsed.missing,
    }
