"""Serves ``POST /events``, which adds items to users' histories after the bundle was made."""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from service.catalogue.histories import list_ids
from service.errors import InvalidRequestError, UnavailableError
from service.http.routers.dependencies import GenerationOf, ServicesOf
from service.http.routers.request_parsing import openapi_operation, read_body
from service.http.schemas import EventsAnswer, EventsBody, Problem
from service.stores.base import StoreError

router = APIRouter(tags=["events"])


async def _body(request: Request) -> EventsBody:
    return await read_body(request, EventsBody)


@router.post(
    "/events",
    openapi_extra=openapi_operation(None, EventsBody),
    responses={422: {"model": Problem}, 503: {"model": Problem}},
)
async def post_events(
    body: Annotated[EventsBody, Depends(_body)], services: ServicesOf, generation: GenerationOf
) -> EventsAnswer:
    """Append to users' histories; the next recommendation sees it, on every worker.

    All of the batch is stored or nothing is; after a 503 it is not certain which.
    """
    if services.events is None:
        raise UnavailableError(
            "several workers share events through Redis: set MSR_REDIS_URL or MSR_WORKERS=1"
        )
    unknown = [event.item_id for event in body.events if event.item_id not in generation.catalogue.rows]
    if unknown:
        raise InvalidRequestError(f"nothing was stored; unknown items: {list_ids(unknown)}")
    item_ids = defaultdict(list)
    # The sort is stable: events of one second stay in the order of the batch.
    for event in sorted(body.events, key=lambda event: event.timestamp):
        item_ids[event.user_id].append(event.item_id)
    try:
        await services.events.append(item_ids)
    except StoreError:
        raise UnavailableError(
            "the store of events does not answer; the batch may not have been stored", retry_after=2
        ) from None
    return EventsAnswer(accepted=len(body.events))
