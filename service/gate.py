"""What is turned away before a route sees it: bodies over the limit, and requests without the key."""

from __future__ import annotations

import hmac

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BodyTooLargeError, UnauthorizedError
from service.problems import problem

OPEN_PATHS = frozenset({"/", "/metrics", "/health/live", "/health/ready"})
"""Reachable without a key: what probes, Prometheus and the page's own markup need."""


class Gate:
    """Pure ASGI middleware; also counts bodies that do not announce their length."""

    def __init__(self, app: ASGIApp, max_body_bytes: int, api_key: str) -> None:
        self._app = app
        self._max = max_body_bytes
        self._api_key = api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope.get("state", {}).get("request_id")
        headers = dict(scope["headers"])
        if self._api_key and scope["path"] not in OPEN_PATHS and not self._knows(headers):
            answer = problem(
                UnauthorizedError.status,
                UnauthorizedError.title,
                "send the key as `Authorization: Bearer …` or `X-API-Key`",
                request_id,
                headers={"WWW-Authenticate": "Bearer"},
            )
            await answer(scope, receive, send)
            return
        length = headers.get(b"content-length")
        if length is None and b"transfer-encoding" in headers:
            body = await self._read(receive)
            if body is not None:
                await self._app(scope, _replay(body, receive), send)
                return
        elif length is None or int(length) <= self._max:  # the server has checked that it is a number
            await self._app(scope, receive, send)
            return
        answer = problem(
            BodyTooLargeError.status,
            BodyTooLargeError.title,
            f"the body may have {self._max} bytes",
            request_id,
            headers={"Connection": "close"},
        )
        await answer(scope, receive, send)

    def _knows(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        given = token.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        return hmac.compare_digest(given, self._api_key)

    async def _read(self, receive: Receive) -> bytes | None:
        """The whole chunked body; None when it is over the limit."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return bytes(body)
            body += message.get("body", b"")
            if len(body) > self._max:
                return None
            if not message.get("more_body", False):
                return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replayed() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
