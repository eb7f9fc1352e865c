"""One vendor's endpoint for a call of its own, plain or streamed."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from service.simulator.answers.replier import Replier
from service.simulator.books.books import Books
from service.simulator.books.ledger import Call
from service.simulator.books.prompt_cache import PromptCache
from service.simulator.contracts import MARK, Ask, RejectedError, Reply, Wire
from service.simulator.faults import NO_SCHEMA, REJECTIONS, Fault, Faults
from service.simulator.latency_profiles import Profile, Schedule, Timing
from service.simulator.wire.connection import OpenResponse
from service.simulator.wire.delivery import BrokenOffError, Delivery
from service.simulator.wire.request_body import read_body
from service.simulator.wire.responses import refusal


class Endpoint:
    """An ASGI application: reads, answers, writes at the profile's pace.

    Args:
        wire: the vendor's format.
        profile: how long answers take.
        replier: makes the answers.
        faults: says what goes wrong.
        books: where the calls are entered.
        cache: prompts that came before; None where none is billed as cached.
    """

    def __init__(
        self,
        wire: Wire,
        profile: Profile,
        replier: Replier,
        faults: Faults,
        books: Books,
        cache: PromptCache | None,
    ) -> None:
        self._wire = wire
        self._profile = profile
        self._replier = replier
        self._faults = faults
        self._books = books
        self._cache = cache

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call and keep its entry in the ledger up to date."""
        started = asyncio.get_running_loop().time()
        request_id = f"req_{uuid.uuid4().hex}"
        with self._books.ledger.call(self._wire.name) as call:
            try:
                reply, fault = await self._accept(Request(scope, receive), request_id, call)
            except RejectedError as error:
                call.outcome, call.status, call.error = "rejected", error.status, error.message
                allowance = self._books.rate_limit.allowance()
                await refusal(self._wire, error, request_id, allowance)(scope, receive, send)
                return
            except ClientDisconnect:
                call.outcome, call.disconnected = "disconnected", True
                return
            call.status = 200
            schedule = Schedule(self._timing(reply, fault), started)
            delivery = Delivery(self._wire, reply, schedule, fault, OpenResponse(scope, send), call)
            await self._deliver(delivery, reply, started, receive, call)

    async def _accept(self, request: Request, request_id: str, call: Call) -> tuple[Reply, Fault | None]:
        """Read a request and make its reply, unless the vendor would refuse it.

        Raises:
            RejectedError: it would.
            ClientDisconnect: the client left before the end of its request.
        """
        ask = self._wire.requests.read(request.headers, await read_body(request))
        call.model = ask.model
        fault = self._faults.meet(ask.model)
        call.fault = fault.name if fault else None
        self._refuse(ask, fault)
        reply = await self._replier.reply(ask, call, request_id, fault)
        if self._cache:
            call.cached_input_tokens = self._cache.tokens(ask)
            reply = replace(reply, cached_tokens=call.cached_input_tokens)
        self._books.rate_limit.spend(ask.input_tokens + len(reply.tokens))
        return reply, fault

    async def _deliver(
        self, delivery: Delivery, reply: Reply, started: float, receive: Receive, call: Call
    ) -> None:
        """Send a reply until its end, a fault or the client ends it, and bill it."""
        clock = asyncio.get_running_loop().time
        allowance = self._books.rate_limit.allowance()
        headers = {**self._wire.replies.headers(reply.request_id, clock() - started, allowance), **MARK}
        try:
            finished = await _unless_gone(delivery.run(headers), receive)
        except BrokenOffError:
            call.outcome = "broken"
        else:
            if finished:
                if self._cache and call.usage_sent:  # no estimate knows a discount that is not told
                    self._cache.remember(reply.ask)
                call.outcome = "length" if reply.cut else "ok"
            else:
                call.outcome, call.disconnected = "disconnected", True
        if not delivery.worthless:
            self._books.biller.bill(call, delivery.made(clock()))

    def _refuse(self, ask: Ask, fault: Fault | None) -> None:
        """Refuse what the vendor would refuse before any work.

        Raises:
            RejectedError: it does.
        """
        if fault and fault.name in REJECTIONS:
            raise self._wire.errors.fault(fault.name, fault.retry_after)
        if fault and fault.name == NO_SCHEMA and ask.schema is not None:
            raise self._wire.errors.no_schema()
        capacity = self._faults.script.capacity
        if capacity is not None and self._books.ledger.in_flight > capacity:
            raise self._wire.errors.fault("429", 1.0)
        wait = self._books.rate_limit.exhausted(ask.input_tokens)
        if wait is not None:
            raise self._wire.errors.fault("429", wait)

    def _timing(self, reply: Reply, fault: Fault | None) -> Timing:
        timing = self._profile.timing(reply.ask.model, reply.ask.strategy, len(reply.tokens))
        late = self._faults.script.slow_per_call * max(0, self._books.ledger.in_flight - 1)
        if fault and fault.name == "straggler":
            late += fault.delay
        return Timing(timing.first + late, timing.each)


async def _unless_gone(work: Coroutine[Any, Any, None], receive: Receive) -> bool:
    """Do the work, but stop it at once when the client disconnects; says whether it was finished."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.create_task(work), asyncio.create_task(gone())
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
    finally:
        watching.cancel()
        working.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
    if working.cancelled():
        return False
    working.result()  # raises what went wrong in the work
    return True
