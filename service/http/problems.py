"""Writes every error as ``application/problem+json`` (RFC 9457), whichever layer raised it."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.errors import ServiceError

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 20
"""Faults of one request that the answer lists; those beyond are only counted."""


def problem(
    status: int,
    title: str,
    detail: str,
    request_id: str | None = None,
    errors: list[dict[str, str]] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Returns one error as a response.

    Args:
        status: HTTP status code.
        title: title of this kind of error, the same for every occurrence.
        detail: sentence about what is wrong this time and what to do.
        request_id: id of the request; None before it has one.
        errors: entries for the faults, each with ``field`` and ``message``; None for an error without a list.
        headers: headers of the response besides the content type.
    """
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if request_id:
        body["request_id"] = request_id
    if errors:
        body["errors"] = errors
    # A lone surrogate in a client's text must not turn a 422 into a 500.
    content = orjson.dumps(_encodable(body))
    return Response(content, status, headers=headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Registers the handlers that answer expected exceptions; ``Observation`` answers all others."""
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)


def _service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return problem(error.status, error.title, error.detail, _request_id(request), headers=headers)


def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    # Cut: a client's field names may be as long as its body.
    errors = [
        {"field": ".".join(str(part) for part in one["loc"])[:200], "message": str(one["msg"])[:300]}
        for one in found[:MAX_ERRORS]
    ]
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    first = f"{errors[0]['field']}: {errors[0]['message']}{more}" if errors else "the request is not valid"
    return problem(422, "Invalid request", first, _request_id(request), errors)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    titles = {400: "Bad request", 404: "Not found", 405: "Method not allowed", 413: "Body too large"}
    title = titles.get(error.status_code, "Error")
    headers = dict(error.headers) if error.headers else {}
    if "GET" in headers.get("Allow", "") and "HEAD" not in headers["Allow"]:
        headers["Allow"] += ", HEAD"  # `Paths` asks GET for it
    return problem(error.status_code, title, str(error.detail), _request_id(request), headers=headers)


def _request_id(request: Request) -> str | None:
    found = getattr(request.state, "request_id", None)
    return str(found) if found else None


def _encodable(value: Any) -> Any:
    """Returns a JSON value with the characters replaced that UTF-8 cannot encode."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_encodable(one) for one in value]
    if isinstance(value, dict):
        return {key: _encodable(one) for key, one in value.items()}
    return value
