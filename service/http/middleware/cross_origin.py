"""Lets the web pages of other, configured origins call the service (CORS); their preflights need no key."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from service import logs
from service.http.problems import problem

METHODS = ("GET", "HEAD", "POST", "DELETE")
SENT = ("authorization", "content-type", "x-api-key", "x-request-id")
SHOWN = ("retry-after", "x-request-id")
"""Headers of answers that a page's script may read besides those that every script may."""


class CrossOrigin(CORSMiddleware):
    """Answers preflights and marks answers for pages of these origins, as Starlette does.

    Credentials that a browser remembers are never allowed: a page sends its key itself.

    Args:
        app: application inside.
        origins: origins, or ``*`` for any (``MSR_CORS_ORIGINS``).
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=SENT,
            expose_headers=SHOWN,
            allow_private_network=True,  # to a shop's page in the open the service may be inside
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Returns Starlette's answer, or a problem where it has a line of plain text."""
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        headers = {"Vary": response.headers["vary"]}
        detail = f"{bytes(response.body).decode()}: see MSR_CORS_ORIGINS and the methods of the API"
        return problem(403, "Forbidden", detail, logs.REQUEST_ID.get(None), headers=headers)
