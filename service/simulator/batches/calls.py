"""Makes the calls of a batch: each is read, answered and billed as a plain call, but has no connection."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Literal

from service.simulator.answers.replier import Replier
from service.simulator.books.books import Books
from service.simulator.books.ledger import Call
from service.simulator.contracts import RejectedError, Wire
from service.simulator.faults import CONNECTIONS, REJECTIONS, Fault, Faults

Outcome = Literal["succeeded", "errored", "canceled", "expired"]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one request of a batch.

    Attributes:
        custom_id: by which the client knows the request.
        status: HTTP status that a plain call would have had; None when the request was not executed.
        body: the vendor's answer or its error; None when the request was not executed.
    """

    custom_id: str
    outcome: Outcome
    request_id: str
    status: int | None = None
    body: dict[str, Any] | None = None


class BatchCalls:
    """Makes the calls of one vendor's batches; neither limits per minute nor the capacity apply to them.

    A scripted rejection is the error of the request that meets it and a fault of answers bends its answer;
    ``black_hole`` makes it expire, and every other fault of a connection, which it does not have, is a 500:
    what has no answer is not billed.
    """

    def __init__(self, wire: Wire, replier: Replier, faults: Faults, books: Books) -> None:
        self._wire = wire
        self._replier = replier
        self._faults = faults
        self._books = books

    async def make(self, batch: str, custom_id: str, params: dict[str, Any]) -> Result:
        """Make a call of a batch; ``params`` is what the body of a plain call would be."""
        request_id = f"req_{uuid.uuid4().hex}"
        with self._books.ledger.call(self._wire.name, batch) as call:
            try:
                body = await self._answer(params, call, request_id)
            except RejectedError as error:
                call.outcome, call.status, call.error = "rejected", error.status, error.message
                rejection = self._wire.errors.rejection(error, request_id)
                return Result(custom_id, "errored", request_id, error.status, rejection)
            if body is None:
                call.outcome = "expired"
                return Result(custom_id, "expired", request_id)
            self._books.biller.bill(call, call.output_tokens)
            return Result(custom_id, "succeeded", request_id, 200, body)

    def leave(self, custom_id: str) -> Result:
        """Do not make a call, since its batch was cancelled."""
        return Result(custom_id, "canceled", f"req_{uuid.uuid4().hex}")

    async def _answer(self, params: dict[str, Any], call: Call, request_id: str) -> dict[str, Any] | None:
        ask = self._wire.requests.understand(params)
        call.model = ask.model
        fault = self._faults.meet(ask.model)
        call.fault = fault.name if fault else None
        if ask.stream:
            raise RejectedError(
                400, "invalid_request_error", "stream: not supported in a batch", param="stream"
            )
        if fault and fault.name == "black_hole":
            return None
        self._refuse(fault)
        reply = await self._replier.reply(ask, call, request_id, fault)
        call.outcome, call.status = "length" if reply.cut else "ok", 200
        call.tokens_sent, call.usage_sent = len(reply.tokens), True
        return self._wire.replies.message(reply)

    def _refuse(self, fault: Fault | None) -> None:
        if fault and fault.name in REJECTIONS:
            raise self._wire.errors.fault(fault.name, fault.retry_after)
        if fault and fault.name in CONNECTIONS:
            raise self._wire.errors.fault("500", None)
