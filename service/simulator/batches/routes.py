"""Makes routes for calls about files and batches, with the checks and faults that all of them share."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from service.simulator.accounting.rate_limit import RateLimit
from service.simulator.contracts import RejectedError, Wire
from service.simulator.faults import FILES_AND_BATCHES, REJECTIONS, FaultInjector
from service.simulator.wire.connection import reset_connection
from service.simulator.wire.responses import MarkedResponse, refusal

Handler = Callable[[Request], Awaitable[Response | dict[str, Any]]]


class BatchRoutes:
    """Makes routes of handlers, which return a response or its JSON, or raise RejectedError.

    These calls cost nothing and are not in the ledger. Of the faults that a script has for ``batches`` they
    meet the rejections, and ``reset``, which does the work and loses the response.

    Args:
        wire: format of the vendor.
        faults: injector that decides which fault a call meets.
        rate_limit: limits that the headers report; these calls do not count towards them.
    """

    def __init__(self, wire: Wire, faults: FaultInjector, rate_limit: RateLimit) -> None:
        self._wire = wire
        self._faults = faults
        self._rate_limit = rate_limit

    def route(self, path: str, handler: Handler, methods: Sequence[str] = ("GET",)) -> Route:
        """Makes a route to a handler."""

        async def serve(request: Request) -> Response:
            request_id = f"req_{uuid.uuid4().hex}"
            try:
                self._wire.requests.check_headers(request.headers)
                fault = self._faults.fault_for(FILES_AND_BATCHES)
                if fault and fault.name in REJECTIONS:
                    raise self._wire.errors.fault(fault.name, fault.retry_after)
                answer = await handler(request)
            except RejectedError as error:
                return refusal(self._wire, error, request_id, self._rate_limit.status())
            except ClientDisconnect:
                return Response(status_code=499)  # nginx: the client has closed its request
            # After the handler: the batch exists, and the client does not learn its id.
            if fault and fault.name == "reset":
                reset_connection(request.scope)
            response = answer if isinstance(answer, Response) else MarkedResponse(answer)
            response.headers.update(self._wire.replies.headers(request_id, 0.0, self._rate_limit.status()))
            return response

        return Route(path, serve, methods=list(methods))
