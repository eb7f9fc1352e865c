"""Makes the calls of a batch: each is answered and billed as a single call, but has no connection."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Literal

from service.simulator.accounting.accounts import Accounts
from service.simulator.accounting.ledger import LedgerEntry
from service.simulator.answers.replier import Replier
from service.simulator.contracts import RejectedError, Wire
from service.simulator.faults import CONNECTION_FAULTS, REJECTIONS, Fault, FaultInjector

Outcome = Literal["succeeded", "errored", "canceled", "expired"]


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The result of one request of a batch.

    Attributes:
        custom_id: id that the client gave the request.
        outcome: one of ``Outcome``, named as by Anthropic.
        request_id: id that the simulator gave the call.
        status: HTTP status that a single call would have had; None when the request was not executed.
        body: JSON of the answer or the error; None when the request was not executed.
    """

    custom_id: str
    outcome: Outcome
    request_id: str
    status: int | None = None
    body: dict[str, Any] | None = None


class BatchCalls:
    """Makes the calls of one vendor's batches, to which limits per minute and capacity do not apply.

    A scripted rejection becomes the error of the request that meets it, and a fault of answers malforms its
    answer. ``black_hole`` makes a request expire, and every other fault of a connection becomes a 500. A
    request without an answer is not billed.
    """

    def __init__(self, wire: Wire, replier: Replier, faults: FaultInjector, accounts: Accounts) -> None:
        self._wire = wire
        self._replier = replier
        self._faults = faults
        self._accounts = accounts

    async def make(self, batch: str, custom_id: str, params: dict[str, Any]) -> BatchResult:
        """Makes a call of a batch; ``params`` is the JSON that the body of a single call would be."""
        request_id = f"req_{uuid.uuid4().hex}"
        with self._accounts.ledger.record(self._wire.name, batch) as entry:
            try:
                body = await self._answer(params, entry, request_id)
            except RejectedError as error:
                entry.outcome, entry.status, entry.error = "rejected", error.status, error.message
                rejection = self._wire.errors.rejection(error, request_id)
                return BatchResult(custom_id, "errored", request_id, error.status, rejection)
            if body is None:
                entry.outcome = "expired"
                return BatchResult(custom_id, "expired", request_id)
            self._accounts.biller.bill(entry, entry.output_tokens)
            return BatchResult(custom_id, "succeeded", request_id, 200, body)

    def skip(self, custom_id: str) -> BatchResult:
        """Returns the result of a call that is not made, since its batch was cancelled."""
        return BatchResult(custom_id, "canceled", f"req_{uuid.uuid4().hex}")

    async def _answer(
        self, params: dict[str, Any], entry: LedgerEntry, request_id: str
    ) -> dict[str, Any] | None:
        request = self._wire.requests.parse(params)
        entry.model = request.model
        fault = self._faults.fault_for(request.model)
        entry.fault = fault.name if fault else None
        # Neither vendor streams in a batch.
        if request.stream:
            raise RejectedError(
                400, "invalid_request_error", "stream: not supported in a batch", param="stream"
            )
        # A call that never ends expires at the end of the vendor's day.
        if fault and fault.name == "black_hole":
            return None
        self._refuse(fault)
        reply = await self._replier.reply(request, entry, request_id, fault)
        entry.outcome, entry.status = "length" if reply.cut else "ok", 200
        entry.tokens_sent, entry.usage_sent = len(reply.tokens), True
        return self._wire.replies.message(reply)

    def _refuse(self, fault: Fault | None) -> None:
        if fault and fault.name in REJECTIONS:
            raise self._wire.errors.fault(fault.name, fault.retry_after)
        # There is no connection to break, so the vendor fails instead.
        if fault and fault.name in CONNECTION_FAULTS:
            raise self._wire.errors.fault("500", None)
