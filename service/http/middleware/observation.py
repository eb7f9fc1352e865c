"""Gives every request an id, and observes each recommendation in the request histogram and in the log."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterable

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import logs
from service.http.problems import problem
from service.logs import FIELDS
from service.metrics import NONE, Metrics

RECOMMEND_PATH = "/recommend"
REQUEST_ID = b"x-request-id"
CLIENT_CLOSED_REQUEST = 499
"""Status, in the histogram and the log, of a request whose client left before the answer (as in nginx)."""

_ACCEPTABLE = re.compile(rb"[A-Za-z0-9._:-]{1,64}")  # a client's request id that is kept

logger = logging.getLogger("service.requests")


class Observation:
    """Gives requests an id and observes their duration and status, those of failed ones too.

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

        is_recommend = scope["path"] == RECOMMEND_PATH and scope["method"] == "POST"
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
            if is_recommend:
                self._metrics.inflight_requests.dec()
                left = bool(state.get("left"))
                self._observe(time.perf_counter() - started, CLIENT_CLOSED_REQUEST if left else status, state)
            logs.REQUEST_ID.reset(token)

    def _observe(self, seconds: float, status: int, state: dict[str, object]) -> None:
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
        if logger.isEnabledFor(logging.INFO):
            fields = {
                "status": status,
                "strategy": strategy,
                "outcome": outcome,
                "ms": round(seconds * 1000, 2),
            }
            logger.info("recommend", extra={FIELDS: fields})


def _request_id(scope: Scope) -> str:
    """Returns the client's id if a log line can safely hold it, else 32 random hexadecimal digits."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID and _ACCEPTABLE.fullmatch(value):
            return str(value.decode())
    return os.urandom(16).hex()
