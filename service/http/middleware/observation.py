"""Gives every request an id, counts and times it, and logs each recommendation and each failure."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence

from fastapi.routing import iter_route_contexts
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import logs
from service.http.problems import problem
from service.logs import FIELDS
from service.metrics import NONE, OTHER, Metrics

RECOMMEND_PATH = "/recommend"
READY_PATH = "/health/ready"
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
"""Methods whose failures are logged, 4xx too."""
REQUEST_ID = b"x-request-id"
CLIENT_CLOSED_REQUEST = 499
"""Status, in the histogram and the log, of a request whose client left before the answer (as in nginx)."""

_ACCEPTABLE = re.compile(rb"[A-Za-z0-9._:-]{1,64}")  # a client's request id that is kept

logger = logging.getLogger("service.requests")


class Observation:
    """Gives requests an id and observes their duration and status, those of failed and refused ones too.

    It sets ``request_id`` in ``scope["state"]``. A route may set ``labels`` there, for the histogram, and
    ``left`` if the client did not read the answer to its end. Pure ASGI, because Starlette's
    ``BaseHTTPMiddleware`` starts a task per request.

    Args:
        app: application that is observed.
        metrics: metrics of this worker.
        headers: headers of every response, besides the id.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._app = app
        self._metrics = metrics
        self._templates: list[tuple[re.Pattern[str], str]] | None = None  # read at the first need
        self._headers = tuple(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on and observes its response; other connections are only passed on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        state = scope.setdefault("state", {})
        request_id = _request_id(scope)
        state["request_id"] = request_id
        token = logs.REQUEST_ID.set(request_id)
        status = CLIENT_CLOSED_REQUEST

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    *self._headers,
                    (REQUEST_ID, request_id.encode()),
                ]
            await send(message)

        is_recommend = scope["method"] == "POST" and scope["path"] == RECOMMEND_PATH
        if is_recommend:
            self._metrics.inflight_requests.inc()
        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            pass
        except Exception:  # answered here: Starlette's own error handler is outside of this middleware
            logger.exception("unexpected error")
            if status == CLIENT_CLOSED_REQUEST:  # no response has begun
                answer = problem(500, "Internal error", "an unexpected error; the log has it", request_id)
                await answer(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            if state.get("left"):
                status = CLIENT_CLOSED_REQUEST
            route = self._route(scope)
            self._metrics.http_request(route, status).inc()
            if is_recommend:
                self._metrics.inflight_requests.dec()
                self._observe_recommendation(seconds, status, state)
            else:
                self._metrics.http_request_seconds(route, status).observe(seconds)
                _log_failure(scope["method"], route, status, seconds)
            logs.REQUEST_ID.reset(token)

    def _route(self, scope: Scope) -> str:
        """Returns the template of the route that a request named, such as ``/items/{item_id}``."""
        template = getattr(scope.get("route"), "path_format", None)
        if isinstance(template, str):
            return template
        # Refused before it came to a route, or answered by one that does not say so.
        if self._templates is None:
            self._templates = list(_templates(scope["app"].routes)) if "app" in scope else []
        path = scope["path"]
        return next((template for regex, template in self._templates if regex.match(path)), OTHER)

    def _observe_recommendation(self, seconds: float, status: int, state: dict[str, object]) -> None:
        found = state.get("labels")
        labels = found if isinstance(found, dict) else {}
        strategy = labels.get("strategy", NONE if status == 200 else "invalid")
        outcome = labels.get("outcome", "error")
        self._metrics.request_duration.labels(
            strategy,
            labels.get("backbone", NONE),
            labels.get("model", NONE),
            labels.get("cache", NONE),
            outcome,
            str(status),
        ).observe(seconds)
        level = _level(status)
        if logger.isEnabledFor(level):
            fields = {
                "status": status,
                "strategy": strategy,
                "outcome": outcome,
                "ms": round(seconds * 1000, 2),
            }
            logger.log(level, "recommend", extra={FIELDS: fields})


def _log_failure(method: str, route: str, status: int, seconds: float) -> None:
    """Logs a request that the service failed to answer, and a write that was refused."""
    if status < 400 or (status < 500 and method not in WRITES):
        return
    # A service that is not ready says so to every probe: an answer, and no failure.
    level = logging.INFO if route == READY_PATH else _level(status)
    fields = {"method": method, "route": route, "status": status, "ms": round(seconds * 1000, 2)}
    logger.log(level, "request failed", extra={FIELDS: fields})


def _level(status: int) -> int:
    return logging.WARNING if status >= 500 else logging.INFO


def _templates(routes: Sequence[BaseRoute]) -> Iterator[tuple[re.Pattern[str], str]]:
    """Yields the pattern and the template of every route, in the order in which they are tried."""
    for route in iter_route_contexts(routes):
        regex, template = getattr(route, "path_regex", None), getattr(route, "path_format", None)
        if isinstance(regex, re.Pattern) and isinstance(template, str):
            # A mounted application has a template that names its rest, and matches below its own path alone.
            yield regex, template.removesuffix("/{path}")


def _request_id(scope: Scope) -> str:
    """Returns the client's id if a log line can safely hold it, else 32 random hexadecimal digits."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID and _ACCEPTABLE.fullmatch(value):
            return str(value.decode())
    return os.urandom(16).hex()
