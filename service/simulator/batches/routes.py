"""The calls about files and batches, as far as they are alike: key, faults, refusals."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from service.simulator.books.rate_limit import RateLimit
from service.simulator.contracts import RejectedError, Wire
from service.simulator.faults import BATCHES, REJECTIONS, Faults
from service.simulator.wire.connection import reset_connection
from service.simulator.wire.responses import MarkedResponse, refusal

Handler = Callable[[Request], Awaitable[Response | dict[str, Any]]]


class BatchRoutes:
    """Makes routes of handlers, which return a response or its JSON, or raise RejectedError.

    These calls cost nothing and are not in the ledger. Of the faults that a script has for ``batches`` they
    meet the rejections, and ``reset``: what was asked for is done and the answer is lost.
    """

    def __init__(self, wire: Wire, faults: Faults, rate_limit: RateLimit) -> None:
        self._wire = wire
        self._faults = faults
        self._rate_limit = rate_limit

    def route(self, path: str, handler: Handler, methods: Sequence[str] = ("GET",)) -> Route:
        """A route to a handler."""

        async def serve(request: Request) -> Response:
            request_id = f"req_{uuid.uuid4().hex}"
            try:
                self._wire.requests.check_headers(request.headers)
                fault = self._faults.meet(BATCHES)
                if fault and fault.name in REJECTIONS:
                    raise self._wire.errors.fault(fault.name, fault.retry_after)
                answer = await handler(request)
            except RejectedError as error:
                return refusal(self._wire, error, request_id, self._rate_limit.allowance())
            except ClientDisconnect:
                return Response(status_code=499)  # nginx: the client has closed its request
            if fault and fault.name == "reset":
                reset_connection(request.scope)
            response = answer if isinstance(answer, Response) else MarkedResponse(answer)
            response.headers.update(self._wire.replies.headers(request_id, 0.0, self._rate_limit.allowance()))
            return response

        return Route(path, serve, methods=list(methods))
