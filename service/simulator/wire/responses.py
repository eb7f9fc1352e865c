"""HTTP responses that are not an answer: JSON with the simulator's header, and refusals."""

from __future__ import annotations

import json
from math import ceil
from typing import Any

from starlette.responses import JSONResponse

from service.simulator.contracts import SIMULATOR_HEADER, RateLimitStatus, RejectedError, Wire


class MarkedResponse(JSONResponse):
    """A JSON response in ASCII, which can carry half of a surrogate pair back to the client that sent it."""

    def __init__(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(content, status, headers={**(headers or {}), **SIMULATOR_HEADER})

    def render(self, content: Any) -> bytes:
        """See Response."""
        # ensure_ascii, the default, writes lone surrogates as escapes; UTF-8 has no form for them.
        return json.dumps(content, separators=(",", ":")).encode()


def refusal(
    wire: Wire, error: RejectedError, request_id: str, rate_limits: RateLimitStatus
) -> MarkedResponse:
    """Makes the response that refuses a request."""
    headers = wire.replies.headers(request_id, 0.0, rate_limits)
    if error.retry_after is not None:
        # RFC 9110 knows whole seconds alone; OpenAI sends milliseconds besides, which its SDK prefers.
        headers["retry-after"] = str(ceil(error.retry_after))
        if wire.name == "openai":
            headers["retry-after-ms"] = str(ceil(1000 * error.retry_after))
    return MarkedResponse(wire.errors.rejection(error, request_id), error.status, headers)
