"""Gives every request the path that the routes know, and a ``HEAD`` request the route of ``GET``."""

from __future__ import annotations

from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send


class Paths:
    """Takes the proxy's prefix and a final slash off the path, and asks ``GET`` for what ``HEAD`` asks.

    Everything inside sees paths as if the service were at the root, whether the proxy strips its prefix or
    not. A prefix never begins with one of our routes, so the two cannot be confused.

    Args:
        app: application inside.
        root_path: prefix of all paths (``MSR_ROOT_PATH``), such as ``/msr``; empty for none.
        fixed: paths of all routes without parameters. A final slash is taken off these alone, since an id may
            end in one.
    """

    def __init__(self, app: ASGIApp, root_path: str, fixed: Collection[str]) -> None:
        self._app = app
        self._root_path = root_path
        self._fixed = frozenset(fixed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] == "http":
            if scope["path"] not in self._fixed:
                scope["path"] = self._route_path(scope["path"])
            if scope["method"] == "HEAD":
                # A copy: the server's own still says HEAD, so it sends the headers and leaves the body out.
                scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)

    def _route_path(self, path: str) -> str:
        below = path.removeprefix(self._root_path)
        if len(below) < len(path) and below[:1] in ("", "/"):
            path = below or "/"
        if path not in self._fixed and path[:-1] in self._fixed and path.endswith("/"):
            return path[:-1]
        return path
