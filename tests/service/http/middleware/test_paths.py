"""Tests the paths of requests: a proxy's prefix, final slashes, and HEAD."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.http.middleware.paths import Paths

FIXED = {"/", "/recommend", "/items", "/users", "/docs", "/docs/", "/health/live"}


async def seen(path: str, root_path: str = "", method: str = "GET") -> dict[str, Any]:
    """The request as the application inside sees it."""
    scopes: list[Any] = []

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)

    scope = {"type": "http", "method": method, "path": path}
    await Paths(inside, root_path, FIXED)(scope, None, None)  # type: ignore[arg-type]
    assert scope["method"] == method  # the server's own scope keeps it
    return dict(scopes[0])


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("/recommend", "/recommend"),
        ("/recommend/", "/recommend"),
        ("/health/live/", "/health/live"),
        ("/docs/", "/docs/"),  # a route of its own, which leads to the one without
        ("/recommend//", "/recommend//"),
        ("/items/", "/items"),
        ("/items/a/", "/items/a/"),  # an id may end in a slash
        ("/items/a//image", "/items/a//image"),
        ("/", "/"),
        ("//", "/"),
        ("", ""),
        ("/nowhere/", "/nowhere/"),
    ],
)
async def test_a_final_slash_counts_in_ids_alone(path: str, inside: str) -> None:
    assert (await seen(path))["path"] == inside


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("/msr/recommend", "/recommend"),
        ("/msr/recommend/", "/recommend"),
        ("/msr/items/a/b", "/items/a/b"),
        ("/msr/items//msr/x", "/items//msr/x"),
        ("/msr", "/"),
        ("/msr/", "/"),
        ("/recommend", "/recommend"),
        ("/items/msr/x", "/items/msr/x"),
        ("/", "/"),
        ("/msrx/recommend", "/msrx/recommend"),
        ("/msr/msr/recommend", "/msr/recommend"),
    ],
)
async def test_a_prefix_is_taken_off_once_whether_the_proxy_has_done_so_or_not(
    path: str, inside: str
) -> None:
    assert (await seen(path, "/msr"))["path"] == inside


@given(item_id=st.text(min_size=1), root_path=st.sampled_from(["", "/msr", "/a/b"]))
async def test_no_id_is_changed_by_a_prefix(item_id: str, root_path: str) -> None:
    for prefix in ("", root_path):
        assert (await seen(f"{prefix}/items/{item_id}/image", root_path))["path"] == f"/items/{item_id}/image"


async def test_head_is_asked_as_get_and_nothing_else_is() -> None:
    assert (await seen("/items", method="HEAD"))["method"] == "GET"
    assert (await seen("/items", method="POST"))["method"] == "POST"
