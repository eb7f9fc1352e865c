"""``POST /recommend``: the service's reason to be."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request, Response

from service.answer import answer, labels
from service.routers.dependencies import ServicesOf
from service.schemas import Problem, RecommendAnswer, RecommendBody, RecommendQuery

router = APIRouter(tags=["recommend"])


@router.post(
    "/recommend",
    response_model=RecommendAnswer,
    responses={
        422: {"model": Problem, "description": "Says what is wrong and names it"},
        429: {"model": Problem, "description": "Too many requests are waiting; see Retry-After"},
    },
)
async def recommend(
    request: Request, body: RecommendBody, query: Annotated[RecommendQuery, Query()], services: ServicesOf
) -> Response:
    """Recommend ``k`` items to a user or to a history.

    Whatever the LVLM does, the answer is 200; ``served`` says which strategy really ordered it and
    ``outcome`` why.
    """
    state = request.scope["state"]
    state["labels"] = {"strategy": query.strategy}
    recommendation = await services.recommender.recommend(body, query)
    state["labels"] = labels(recommendation)
    content = answer(recommendation, services.bundle.catalogue, state["request_id"])
    return Response(orjson.dumps(content), media_type="application/json")
