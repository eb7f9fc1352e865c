"""Serves ``/items`` and ``/users``: the bundle's items, images and users, in pages, and their histories."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from models.contracts.ids import MAX_ID_CHARACTERS
from models.contracts.picture import media_type
from service.catalogue.bundle import Catalogue
from service.catalogue.search_words import MAX_WORDS, query_words
from service.errors import InvalidRequestError, NotFoundError, UnavailableError
from service.http.links import Links
from service.http.routers.dependencies import STORE_RETRY_SECONDS, GenerationOf, ServicesOf
from service.http.schemas import HistoryAnswer, ItemAnswer, ItemsAnswer, Problem, UserAnswer, UsersAnswer

NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem}, 422: {"model": Problem}}
# An image that is a disguised page must not run as one.
IMAGE_HEADERS = {
    "Accept-Ranges": "none",
    "Cache-Control": "max-age=86400",
    "Vary": "X-API-Key",  # a cache between must not give to all what one key was shown (RFC 9111, 3.5)
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


class LiteralEnd(APIRoute):
    """Matches a path with parameters only if the text after the last one was not percent-encoded.

    The server decodes paths: without this the item ``a/image`` would be taken for the picture of ``a``.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Returns whether the route is for this request, as Starlette's routes do."""
        _, parameter, end = self.path.rpartition("}")
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        if parameter and not raw_path.endswith(end.encode()):
            return Match.NONE, {}
        return super().matches(scope)


ITEMS_PER_PASS = 100
"""Items that are answered in one pass of the event loop, in about a millisecond; a history may be long."""

router = APIRouter(tags=["catalogue"], route_class=LiteralEnd)

SEARCHED = (
    f"At most {MAX_WORDS} different words, all of which the item's name must hold, in any order: a word of "
    "three characters or more anywhere in it (`pot` finds `teapot`), a shorter one where a word begins. "
    "Case, accents and repeated words make no difference; signs of one or two characters (`&`) are left out"
)

MAX_QUERY_CHARACTERS = 256
"""Characters of a search at most."""

PageLimit = Annotated[int, Query(ge=1, le=100)]
After = Annotated[
    str | None, Query(max_length=MAX_ID_CHARACTERS, description="The `next` of the page before")
]
PathId = Annotated[str, Path(max_length=MAX_ID_CHARACTERS)]


@router.get(
    "/items",
    responses={
        422: {"model": Problem},
        429: {"model": Problem, "description": "Too many searches are waiting; see Retry-After"},
        503: {"model": Problem, "description": "The search took too long"},
    },
)
async def list_items(
    services: ServicesOf,
    generation: GenerationOf,
    q: Annotated[str, Query(max_length=MAX_QUERY_CHARACTERS, description=SEARCHED)] = "",
    limit: PageLimit = 20,
    after: After = None,
) -> ItemsAnswer:
    """Items in catalogue order, all or those whose names match `q`."""
    catalogue = generation.catalogue
    start = 0
    if after is not None:
        if after not in catalogue.rows:
            raise InvalidRequestError(f"after: no item {after[:80]!r}")
        start = catalogue.rows[after] + 1
    words = query_words(q)
    rows: Sequence[int] = range(start, min(start + limit + 1, len(catalogue.items)))
    if words:  # one row more than the page has shows that there is a next page
        rows = await services.search_threads.run(generation.search.find, words, start, limit + 1)
    items = [item_answer(catalogue, row, services.links) for row in rows[:limit]]
    return ItemsAnswer(items=items, next=items[-1].item_id if len(rows) > limit else None)


# ``:path`` because an id may hold slashes; this route must come before the one without ``/image``.
@router.get(
    "/items/{item_id:path}/image",
    responses={
        200: {
            "content": {"image/*": {}},
            "description": "The file, of the type that its contents have: JPEG, PNG, GIF, WebP or BMP",
        },
        **NOT_FOUND,
        404: {"model": Problem, "description": "No such item, or no picture of it that may be shown"},
        304: {"description": "The picture has the `ETag` that `If-None-Match` names"},
        429: {"model": Problem, "description": "Too many pictures are waiting; see Retry-After"},
    },
    response_class=Response,
)
async def item_image(
    item_id: PathId,
    services: ServicesOf,
    generation: GenerationOf,
    if_none_match: Annotated[str, Header()] = "",
) -> Response:
    """The item's picture, whole: a `Range` is not looked at."""
    row = _row(generation.catalogue, item_id)
    # In threads of their own: a disk that is slow holds up pictures alone.
    found = await services.image_threads.run(_picture, generation.catalogue, row)
    if found is None:
        raise NotFoundError(f"the item {item_id[:80]!r} has no image")
    content, kind, digest = found
    headers = {**IMAGE_HEADERS, "ETag": f'"{digest}"'}
    if digest in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)


def _picture(catalogue: Catalogue, row: int) -> tuple[bytes, str, str] | None:
    """Returns an item's picture, its media type and its SHA-256; None for what is no picture. Blocks."""
    content = catalogue.image(row)
    # By its contents: of a program that is called a picture, a browser shall get nothing.
    kind = media_type(content) if content is not None else None
    if content is None or kind is None:
        return None
    return content, kind, catalogue.items[row].image_sha256 or hashlib.sha256(content).hexdigest()


@router.get("/items/{item_id:path}", responses=NOT_FOUND)
async def get_item(item_id: PathId, services: ServicesOf, generation: GenerationOf) -> ItemAnswer:
    """One item."""
    catalogue = generation.catalogue
    return item_answer(catalogue, _row(catalogue, item_id), services.links)


@router.get("/users", responses={422: {"model": Problem}})
async def list_users(generation: GenerationOf, limit: PageLimit = 20, after: After = None) -> UsersAnswer:
    """Users of the bundle, with the length of their stored history."""
    histories = generation.catalogue.histories
    start = 0
    if after is not None:
        if after not in histories.users:
            raise InvalidRequestError(f"after: no user {after[:80]!r}")
        start = histories.users[after] + 1
    end = min(start + limit, len(histories.user_ids))
    users = [
        UserAnswer(
            user_id=histories.user_ids[at],
            interactions=int(histories.offsets[at + 1] - histories.offsets[at]),
        )
        for at in range(start, end)
    ]
    return UsersAnswer(users=users, next=users[-1].user_id if end < len(histories.user_ids) else None)


@router.get("/users/{user_id:path}/history", responses={**NOT_FOUND, 503: {"model": Problem}})
async def user_history(user_id: PathId, services: ServicesOf, generation: GenerationOf) -> HistoryAnswer:
    """A user's items, oldest first, with the events since the bundle was made."""
    catalogue = generation.catalogue
    history = await services.histories.stored(catalogue, user_id)
    if not history.known_user and not history.events_read:
        raise UnavailableError(
            "the store of events does not answer: it may know this user", retry_after=STORE_RETRY_SECONDS
        )
    if not history.known_user:
        raise NotFoundError(f"no user {user_id[:80]!r}")
    return HistoryAnswer(
        user_id=user_id,
        items=await item_answers(catalogue, history.rows, services.links),
        warnings=list(history.warnings),
    )


async def item_answers(catalogue: Catalogue, rows: Sequence[int], links: Links) -> list[ItemAnswer]:
    """Returns items as they are answered, any number of them: other requests go on in between."""
    items = []
    for at, row in enumerate(rows, start=1):
        items.append(item_answer(catalogue, row, links))
        if at % ITEMS_PER_PASS == 0:
            await asyncio.sleep(0)
    return items


def item_answer(catalogue: Catalogue, row: int, links: Links) -> ItemAnswer:
    """Returns one item as it is answered."""
    item = catalogue.items[row]
    return ItemAnswer(
        item_id=item.item_id,
        title=item.name,
        categories=list(item.categories),
        image_url=links.image_url(item.item_id) if item.image else None,
        captions={name: captions[row] for name, captions in catalogue.captions.items() if row in captions},
        popularity=int(catalogue.popularity[row]),
    )


def _row(catalogue: Catalogue, item_id: str) -> int:
    row = catalogue.rows.get(item_id)
    if row is None:
        raise NotFoundError(f"no item {item_id[:80]!r}")
    return row
