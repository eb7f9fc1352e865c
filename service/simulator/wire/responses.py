"""What every response is made of: marked JSON, and the shape of a refusal."""

from __future__ import annotations

import json
from math import ceil
from typing import Any

from starlette.responses import JSONResponse

from service.simulator.contracts import MARK, Allowance, RejectedError, Wire


class MarkedResponse(JSONResponse):
    """JSON in ASCII, so that half of a surrogate pair that a client sent goes back as it came."""

    def __init__(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(content, status, headers={**(headers or {}), **MARK})

    def render(self, content: Any) -> bytes:
        """See Response."""
        return json.dumps(content, separators=(",", ":")).encode()


def refusal(wire: Wire, error: RejectedError, request_id: str, allowance: Allowance) -> MarkedResponse:
    """The response that refuses a request."""
    headers = wire.replies.headers(request_id, 0.0, allowance)
    if error.retry_after is not None:
        headers["retry-after"] = str(ceil(error.retry_after))
        if wire.name == "openai":
            headers["retry-after-ms"] = str(ceil(1000 * error.retry_after))
    return MarkedResponse(wire.errors.rejection(error, request_id), error.status, headers)
