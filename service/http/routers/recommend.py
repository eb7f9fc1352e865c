"""Serves ``POST /recommend``: one recommendation, as JSON or as server-sent events while it is made."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.http.answer import answer, labels
from service.http.client_limits import client_of
from service.http.event_stream import MEDIA_TYPE, EventStream
from service.http.routers.dependencies import services_of
from service.http.routers.request_parsing import openapi_operation, read_body, read_query
from service.http.schemas import Problem, RecommendAnswer, RecommendBody, RecommendQuery
from service.recommender import Recommendation, RecommendationRequest
from service.strategies import STRATEGIES

router = APIRouter(tags=["recommend"])


@router.post(
    "/recommend",
    response_model=RecommendAnswer,
    openapi_extra=openapi_operation(RecommendQuery, RecommendBody),
    responses={
        200: {
            "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
            "description": "The recommendation; as events for who accepts text/event-stream: "
            "candidates, item …, explanation, answer (or error, with problem details)",
        },
        422: {"model": Problem, "description": "Says what is wrong and names it"},
        429: {
            "model": Problem,
            "description": "Too many requests are waiting, or came from this client; see Retry-After",
        },
    },
)
async def recommend(request: Request) -> Response:
    """Recommend ``k`` items to a user or to a history.

    Whatever the LVLM does, the answer is 200; ``served`` says which strategy really ordered it and
    ``outcome`` why.
    """
    state, services = request.scope["state"], await services_of(request)
    query = read_query(request, RecommendQuery)
    state["labels"] = {"strategy": query.strategy}  # of a request that is refused from here on
    recommendation_request = to_recommendation_request(await read_body(request, RecommendBody), query)
    limit = services.client_limits.lvlm_calls
    if limit is not None and recommendation_request.strategy.asks_lvlm:
        await limit.take(client_of(request.scope))
    if MEDIA_TYPE in request.headers.get("accept", ""):
        return await _streamed(request, recommendation_request)
    generation = services.generation.get()
    recommendation = await services.recommender.recommend(recommendation_request, generation)
    state["labels"] = labels(recommendation)
    content = answer(recommendation, state["request_id"], services.links)
    return Response(orjson.dumps(content), media_type="application/json")


def to_recommendation_request(body: RecommendBody, query: RecommendQuery) -> RecommendationRequest:
    """Returns the request of the recommender that query and body ask for."""
    return RecommendationRequest(
        strategy=STRATEGIES[query.strategy],
        user_id=body.user_id,
        history=body.history,
        candidates=body.candidates,
        exclude=body.exclude,
        include_seen=body.include_seen,
        k=body.k,
        deadline=None if body.deadline_ms is None else body.deadline_ms / 1000,
        backbone=query.backbone,
        provider=query.provider,
        model=query.model,
        modality=query.modality,
        image_mode=query.image_mode,
        form=query.prompt,
        cache=query.cache,
        explain=query.explain,
    )


async def _streamed(request: Request, recommendation_request: RecommendationRequest) -> Response:
    state, services = request.scope["state"], await services_of(request)

    def count_rescue(recommendation: Recommendation) -> None:
        services.metrics.fallbacks.labels(str(recommendation.outcome)).inc()
        state["labels"] = labels(recommendation)

    generation = services.generation.get()
    stream = EventStream(state["request_id"], services.links, count_rescue)

    async def recommending() -> Recommendation:
        recommendation = await services.recommender.recommend(recommendation_request, generation, stream)
        state["labels"] = labels(recommendation)
        return recommendation

    await stream.start(recommending())
    # The header x-accel-buffering keeps nginx from collecting the events until the answer is complete.
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return _EventResponse(stream, headers)


class _EventResponse(StreamingResponse):
    """Sends the events of one recommendation; a client that leaves ends the wait for the LVLM."""

    def __init__(self, stream: EventStream, headers: dict[str, str]) -> None:
        super().__init__(stream.read(), media_type=MEDIA_TYPE, headers=headers)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the events to the end, or until the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.close()
            scope["state"]["left"] = not self._stream.complete
