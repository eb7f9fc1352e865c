"""Serves ``POST /events``, which adds to histories, and ``DELETE /users/{user_id}``, which forgets a user."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request

from models.contracts.ids import MAX_ID_CHARACTERS
from service.catalogue.histories import list_ids
from service.errors import FullError, InvalidRequestError, NotFoundError, UnavailableError
from service.http.routers.dependencies import STORE_RETRY_SECONDS, GenerationOf, ServicesOf
from service.http.routers.request_parsing import openapi_operation, read_body
from service.http.schemas import Event, EventsAnswer, EventsBody, ForgottenAnswer, Problem
from service.stores import events as stores
from service.stores.base import StoreError
from service.stores.events import StoreFullError
from service.stores.forgotten import forget_user

AHEAD_SECONDS = 86_400
"""Seconds by which an event may be ahead of the server's clock: clocks and time zones differ."""

_PROBLEM: dict[str, Any] = {"model": Problem}

router = APIRouter(tags=["events"])


async def _body(request: Request) -> EventsBody:
    return await read_body(request, EventsBody)


@router.post(
    "/events",
    openapi_extra=openapi_operation(None, EventsBody),
    responses={422: _PROBLEM, 503: _PROBLEM, 507: _PROBLEM},
)
async def post_events(
    body: Annotated[EventsBody, Depends(_body)], services: ServicesOf, generation: GenerationOf
) -> EventsAnswer:
    """Add to histories, in the order of the timestamps; the next recommendation sees it, on every worker.

    All of the batch is stored or nothing is. After a 503 it is not certain which: send it again, since events
    that are there already are not stored twice.
    """
    unknown = [event.item_id for event in body.events if event.item_id not in generation.catalogue.rows]
    if unknown:
        raise InvalidRequestError(f"nothing was stored; unknown items: {list_ids(unknown)}")
    _check_times(body.events)
    batch = [
        stores.Event(event.user_id, event.item_id, event.timestamp, event.event_id) for event in body.events
    ]
    try:
        appended = await services.events.append(batch)
    except StoreFullError as error:
        raise FullError(f"nothing was stored: {error}") from None
    except StoreError:
        raise UnavailableError(
            "the store of events does not answer; the batch may not have been stored: send it again",
            retry_after=STORE_RETRY_SECONDS,
        ) from None
    counts = EventsAnswer(stored=appended.stored, repeated=appended.repeated, dropped=appended.dropped)
    for result, count in counts:
        services.metrics.events.labels(result).inc(count)
    return counts


@router.delete(
    "/users/{user_id:path}", responses={404: _PROBLEM, 422: _PROBLEM, 503: _PROBLEM, 507: _PROBLEM}
)
async def delete_user(
    user_id: Annotated[str, Path(min_length=1, max_length=MAX_ID_CHARACTERS)],
    services: ServicesOf,
    generation: GenerationOf,
) -> ForgottenAnswer:
    """Forget a user: events and cached answers, on every worker. After a 503 send it again.

    The history that the bundle holds stays until the bundle is made again without it.
    """
    try:
        forgotten = await forget_user(user_id, services.events, services.stores)
    except StoreFullError as error:  # removing writes too
        raise FullError(f"not forgotten: {error}") from None
    except StoreError:
        raise UnavailableError(
            "a store does not answer; the user may not be forgotten: send it again",
            retry_after=STORE_RETRY_SECONDS,
        ) from None
    bundle_history = user_id in generation.catalogue.histories.users
    if not forgotten and not bundle_history:
        raise NotFoundError(f"no user {user_id[:80]!r}")
    return ForgottenAnswer(forgotten=forgotten, bundle_history=bundle_history)


def _check_times(events: Sequence[Event]) -> None:
    """Refuses times beyond tomorrow, which would stay the newest for years.

    Raises:
        InvalidRequestError: an event has such a time.
    """
    latest = time.time() + AHEAD_SECONDS
    ahead = [
        f"events.{at} ({event.timestamp})" for at, event in enumerate(events) if event.timestamp > latest
    ]
    if ahead:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        raise InvalidRequestError(
            f"nothing was stored; timestamps are at most a day ahead of this server's clock ({now}): "
            + list_ids(ahead)
        )
