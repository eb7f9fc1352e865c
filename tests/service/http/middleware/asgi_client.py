"""Sends requests straight to the application, with headers that no HTTP client would send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import orjson

from service.http.app import make_app
from service.http.services import Services
from service.metrics import Metrics
from service.settings import Settings

LIVE = "/health/live"
"""A route that needs no services: GET is 200, any other method that gets so far is 405."""


@dataclass(frozen=True)
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def __getitem__(self, name: str) -> str:
        return ", ".join(value for key, value in self.headers if key == name)

    @property
    def detail(self) -> str:
        return str(orjson.loads(self.body)["detail"])


class AsgiClient:
    """The application with these settings, whose services are never opened."""

    def __init__(self, **settings: Any) -> None:
        # The limits of clients are one of the services.
        settings = {"client_requests_per_minute": 0, **settings}
        self.app = make_app(Settings(**settings), Metrics(), _unopened)
        self._runner = asyncio.Runner()

    def ask(
        self,
        method: str = "GET",
        path: str = LIVE,
        *headers: tuple[str, str | bytes],
        host: str | bytes | None = "localhost:8000",
        peer: str = "203.0.113.9",
        version: str = "1.1",
    ) -> Reply:
        named = [("host", host)] if host is not None else []
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": b"",
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), _bytes(value)) for name, value in [*named, *headers]],
            "client": (peer, 1),
            "server": ("127.0.0.1", 8000),
            "state": {},
        }
        return self._runner.run(self._reply(scope))

    async def _reply(self, scope: dict[str, Any]) -> Reply:
        sent: list[Any] = []
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if asked:
                await asyncio.Event().wait()  # a client that stays
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        self.client = scope["client"]
        headers = [(name.decode().lower(), value.decode("latin-1")) for name, value in sent[0]["headers"]]
        return Reply(sent[0]["status"], headers, b"".join(part.get("body", b"") for part in sent[1:]))

    def close(self) -> None:
        self._runner.close()


Clients = Callable[..., AsgiClient]
"""Function from settings to a client of an application that has them."""


def assert_refused(reply: Reply, status: int, *words: str) -> None:
    """The reply is a problem document with an id, and its sentence holds these words."""
    assert (reply.status, reply["content-type"]) == (status, "application/problem+json")
    problem = orjson.loads(reply.body)
    assert problem["status"] == status
    assert problem["request_id"] == reply["x-request-id"]
    for word in words:
        assert word in problem["detail"]


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _unopened() -> AbstractAsyncContextManager[Services]:
    raise AssertionError("no test with this client starts the lifespan")
