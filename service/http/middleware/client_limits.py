"""Refuses requests of a client that has reached its limit for the minute."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import OverloadedError
from service.http.client_limits import client_of
from service.http.problems import problem

PROBES = frozenset({"/metrics", "/health/live", "/health/ready"})
"""Paths of probes, which are answered whatever else comes from their address."""


class ClientRequestLimit:
    """Answers 429 with ``Retry-After`` to a client beyond ``MSR_CLIENT_REQUESTS_PER_MINUTE``.

    It runs after ``ApiKeyAuth``, so that a client without a key takes nothing from those that have it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] == "http" and scope["path"] not in PROBES:
            limit = scope["app"].state.services.client_limits.requests
            client = client_of(scope)
            if limit is not None and not limit.take_held(client):
                try:
                    await limit.take(client)
                except OverloadedError as error:
                    await _refusal(error, scope)(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def _refusal(error: OverloadedError, scope: Scope) -> ASGIApp:
    headers = {"Retry-After": str(error.retry_after)}
    return problem(error.status, error.title, error.detail, scope["state"]["request_id"], headers=headers)
