"""Turns away requests without the key, where one is set."""

from __future__ import annotations

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import UnauthorizedError
from service.http.problems import problem

OPEN_PATHS = frozenset({"/", "/metrics", "/health/live", "/health/ready"})
"""Reachable without a key: what probes, Prometheus and the page's own markup need."""


class KeyCheck:
    """Pure ASGI middleware."""

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self._app = app
        self._api_key = api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._knows(dict(scope["headers"])):
            await self._app(scope, receive, send)
            return
        answer = problem(
            UnauthorizedError.status,
            UnauthorizedError.title,
            "send the key as `Authorization: Bearer …` or `X-API-Key`",
            scope["state"]["request_id"],
            headers={"WWW-Authenticate": "Bearer"},
        )
        await answer(scope, receive, send)

    def _knows(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        given = token.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        return hmac.compare_digest(given, self._api_key)
