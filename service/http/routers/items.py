"""Serves ``/items`` and ``/users``: the bundle's items, images and users, in pages, and their histories."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import FileResponse

from service.catalogue.bundle import Catalogue
from service.errors import InvalidRequestError, NotFoundError
from service.http.links import Links
from service.http.routers.dependencies import GenerationOf, ServicesOf
from service.http.schemas import HistoryAnswer, ItemAnswer, ItemsAnswer, Problem, UserAnswer, UsersAnswer

NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem}, 422: {"model": Problem}}
# An image that is a disguised page must not run as one.
IMAGE_HEADERS = {
    "Cache-Control": "max-age=86400",
    "Vary": "X-API-Key",  # a cache between must not give to all what one key was shown (RFC 9111, 3.5)
    "Content-Security-Policy": "default-src 'none'; sandbox",
}

router = APIRouter(tags=["catalogue"])

PageLimit = Annotated[int, Query(ge=1, le=100)]
After = Annotated[str | None, Query(max_length=256, description="The `next` of the page before")]


@router.get("/items", responses={422: {"model": Problem}})
async def list_items(
    services: ServicesOf,
    generation: GenerationOf,
    q: Annotated[str, Query(max_length=256, description="Words that the item's name must hold")] = "",
    limit: PageLimit = 20,
    after: After = None,
) -> ItemsAnswer:
    """Items in catalogue order."""
    catalogue = generation.catalogue
    start = 0
    if after is not None:
        if after not in catalogue.rows:
            raise InvalidRequestError(f"after: no item {after[:80]!r}")
        start = catalogue.rows[after] + 1
    words = q.casefold().split()  # all of them must be in the name, in any order
    rows = range(start, len(catalogue.items))
    matching = (row for row in rows if _matches(catalogue.items[row].name.casefold(), words))
    page = list(islice(matching, limit + 1))  # one more, which shows that there is a next page
    items = [item_answer(catalogue, row, services.links) for row in page[:limit]]
    return ItemsAnswer(items=items, next=items[-1].item_id if len(page) > limit else None)


# ``:path`` because an id may hold slashes; this route must come before the one without ``/image``.
@router.get("/items/{item_id:path}/image", responses=NOT_FOUND, response_class=FileResponse)
async def item_image(item_id: Annotated[str, Path(max_length=256)], generation: GenerationOf) -> FileResponse:
    """The item's picture."""
    path = generation.catalogue.image_path(_row(generation.catalogue, item_id))
    if path is None or not path.is_file():
        raise NotFoundError(f"the item {item_id[:80]!r} has no image")
    return FileResponse(path, headers=IMAGE_HEADERS)


@router.get("/items/{item_id:path}", responses=NOT_FOUND)
async def get_item(
    item_id: Annotated[str, Path(max_length=256)], services: ServicesOf, generation: GenerationOf
) -> ItemAnswer:
    """One item."""
    catalogue = generation.catalogue
    return item_answer(catalogue, _row(catalogue, item_id), services.links)


@router.get("/users", responses={422: {"model": Problem}})
async def list_users(generation: GenerationOf, limit: PageLimit = 20, after: After = None) -> UsersAnswer:
    """Users of the bundle, with the length of their stored history."""
    histories = generation.catalogue.histories
    # A dict keeps the order of the file, so positions and the order of pages are the same.
    start = 0
    if after is not None:
        if after not in histories.users:
            raise InvalidRequestError(f"after: no user {after[:80]!r}")
        start = histories.users[after] + 1
    page = list(islice(histories.users.items(), start, start + limit + 1))
    users = [
        UserAnswer(user_id=user_id, interactions=int(histories.offsets[at + 1] - histories.offsets[at]))
        for user_id, at in page[:limit]
    ]
    return UsersAnswer(users=users, next=users[-1].user_id if len(page) > limit else None)


@router.get("/users/{user_id:path}/history", responses=NOT_FOUND)
async def user_history(
    user_id: Annotated[str, Path(max_length=256)], services: ServicesOf, generation: GenerationOf
) -> HistoryAnswer:
    """A user's items, oldest first, with the events since the bundle was made."""
    catalogue = generation.catalogue
    history = await services.histories.stored(catalogue, user_id)
    if not history.known_user:
        raise NotFoundError(f"no user {user_id[:80]!r}")
    return HistoryAnswer(
        user_id=user_id,
        items=[item_answer(catalogue, row, services.links) for row in history.rows],
        warnings=list(history.warnings),
    )


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


def _matches(name: str, words: list[str]) -> bool:
    return all(word in name for word in words)
