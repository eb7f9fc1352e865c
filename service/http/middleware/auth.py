"""Refuses requests without the API key, where the deployment has set one."""

from __future__ import annotations

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import UnauthorizedError
from service.http.problems import problem

OPEN_PATHS = frozenset({"/", "/metrics", "/health/live", "/health/ready"})
"""Paths that are answered without a key: probes, Prometheus and browsers that load the page send none."""


class ApiKeyAuth:
    """Answers 401 to a request with another key than the deployment's, or without one.

    Args:
        app: application that is protected.
        api_key: key of the deployment (``MSR_API_KEY``).
    """

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self._app = app
        self._api_key = api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        if self._is_authorised(dict(scope["headers"])):
            scope["state"]["key"] = "api"  # the key's name, under which the client's requests are counted
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

    def _is_authorised(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        given = token.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        # The time does not depend on how much of the key is right, so it cannot be guessed byte by byte.
        return hmac.compare_digest(given, self._api_key)
