"""Refuses requests without a key, where the deployment has set one."""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode
from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import UnauthorizedError
from service.http.problems import problem

CHALLENGES = ('Basic realm="MSR Serve", charset="UTF-8"', 'Bearer realm="MSR Serve"')
"""Values of ``WWW-Authenticate``, each in a line of its own, as browsers need it. At the first they ask for a
name and a password, and send them with all that a page then fetches."""

_READING = frozenset({"GET", "HEAD"})


class ApiKeyAuth:
    """Answers 401 to a request without a key, and 403 to one that does more than its key allows.

    A key comes as ``Authorization: Bearer``, as ``X-API-Key``, or as the password of HTTP Basic with any user
    name (RFC 7617).

    Args:
        app: application that is protected.
        api_key: key for all requests (``MSR_API_KEY``).
        read_key: key for ``GET`` and ``HEAD`` alone (``MSR_READ_KEY``); empty for none.
        open_paths: paths that are answered without a key.
    """

    def __init__(
        self, app: ASGIApp, api_key: str, read_key: str = "", open_paths: Collection[str] = ()
    ) -> None:
        self._app = app
        self._api_key = api_key.encode()
        self._read_key = read_key.encode()
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] != "http" or scope["path"] in self._open_paths:
            await self._app(scope, receive, send)
            return
        given = _given_keys(scope)
        if _holds(given, self._api_key):
            scope["state"]["key"] = "api"  # the key's name, under which the client's requests are counted
            await self._app(scope, receive, send)
            return
        request_id = scope["state"]["request_id"]
        if self._read_key and _holds(given, self._read_key):
            if scope["method"] in _READING:
                scope["state"]["key"] = "read"
                await self._app(scope, receive, send)
                return
            detail = "this key is for reading: GET and HEAD; for anything else send the key of MSR_API_KEY"
            answer = problem(403, "Forbidden", detail, request_id)
        else:
            detail = (
                "send the key as `Authorization: Bearer …` or `X-API-Key`, or as the password of HTTP Basic"
            )
            answer = problem(UnauthorizedError.status, UnauthorizedError.title, detail, request_id)
            for challenge in CHALLENGES:
                answer.headers.append("WWW-Authenticate", challenge)
        await answer(scope, receive, send)


def _holds(given: list[bytes], key: bytes) -> bool:
    # The time does not depend on how much of the key is right, so it cannot be guessed byte by byte.
    return any(hmac.compare_digest(one, key) for one in given)


def _given_keys(scope: Scope) -> list[bytes]:
    """Returns the keys of a request, at most one of each header: browsers add one to what a page sends."""
    headers = dict(scope["headers"])
    given = [headers[b"x-api-key"]] if b"x-api-key" in headers else []
    scheme, _, rest = headers.get(b"authorization", b"").partition(b" ")
    scheme, rest = scheme.lower(), rest.strip()
    if scheme == b"bearer":
        given.append(rest)
    elif scheme == b"basic":
        try:
            _, colon, password = b64decode(rest, validate=True).partition(b":")
        except binascii.Error:
            return given
        if colon:
            given.append(password)
    return given
