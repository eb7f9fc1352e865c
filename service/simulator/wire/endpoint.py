"""Serves one vendor's endpoint for single calls, plain or streamed."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from service.simulator.accounting.accounts import Accounts
from service.simulator.accounting.ledger import LedgerEntry
from service.simulator.accounting.prompt_cache import PromptCache
from service.simulator.answers.replier import Replier
from service.simulator.contracts import SIMULATOR_HEADER, ChatRequest, RejectedError, Reply, Wire
from service.simulator.faults import NO_SCHEMA, REJECTIONS, Fault, FaultInjector
from service.simulator.latency_profiles import Profile, Schedule, Timing
from service.simulator.wire.connection import OpenResponse
from service.simulator.wire.delivery import BrokenOffError, Delivery
from service.simulator.wire.request_body import read_body
from service.simulator.wire.responses import refusal


class Endpoint:
    """Reads requests, answers them and writes the answers at the profile's pace, as an ASGI application.

    Args:
        wire: format of the vendor.
        profile: latency profile of the answers.
        replier: maker of the answers.
        faults: injector that decides which fault a call meets.
        accounts: accounts of the calls.
        cache: cache of prompts that came before; None to bill no prompt as cached.
    """

    def __init__(
        self,
        wire: Wire,
        profile: Profile,
        replier: Replier,
        faults: FaultInjector,
        accounts: Accounts,
        cache: PromptCache | None,
    ) -> None:
        self._wire = wire
        self._profile = profile
        self._replier = replier
        self._faults = faults
        self._accounts = accounts
        self._cache = cache

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one call and keeps its entry in the ledger up to date."""
        started = asyncio.get_running_loop().time()
        request_id = f"req_{uuid.uuid4().hex}"
        with self._accounts.ledger.record(self._wire.name) as entry:
            try:
                reply, fault = await self._accept(Request(scope, receive), request_id, entry)
            except RejectedError as error:
                entry.outcome, entry.status, entry.error = "rejected", error.status, error.message
                rate_limits = self._accounts.rate_limit.status()
                await refusal(self._wire, error, request_id, rate_limits)(scope, receive, send)
                return
            except ClientDisconnect:
                entry.outcome, entry.disconnected = "disconnected", True
                return
            entry.status = 200
            # Time that was spent on the answer counts towards the time to the first token.
            schedule = Schedule(self._timing(reply, fault), started)
            delivery = Delivery(self._wire, reply, schedule, fault, OpenResponse(scope, send), entry)
            await self._deliver(delivery, reply, started, receive, entry)

    async def _accept(
        self, http_request: Request, request_id: str, entry: LedgerEntry
    ) -> tuple[Reply, Fault | None]:
        """Reads a request and makes its reply, unless the vendor would refuse it.

        Raises:
            RejectedError: the vendor would refuse it.
            ClientDisconnect: the client left before the end of its request.
        """
        request = self._wire.requests.read(http_request.headers, await read_body(http_request))
        entry.model = request.model
        fault = self._faults.fault_for(request.model)
        entry.fault = fault.name if fault else None
        self._refuse(request, fault)
        reply = await self._replier.reply(request, entry, request_id, fault)
        if self._cache:
            entry.cached_input_tokens = self._cache.tokens(request)
            reply = replace(reply, cached_tokens=entry.cached_input_tokens)
        # Refused requests spend nothing of the minute.
        self._accounts.rate_limit.spend(request.input_tokens + len(reply.tokens))
        return reply, fault

    async def _deliver(
        self, delivery: Delivery, reply: Reply, started: float, receive: Receive, entry: LedgerEntry
    ) -> None:
        """Sends a reply until its end, a fault or the client ends it, and bills it."""
        clock = asyncio.get_running_loop().time
        rate_limits = self._accounts.rate_limit.status()
        headers = {
            **self._wire.replies.headers(reply.request_id, clock() - started, rate_limits),
            **SIMULATOR_HEADER,
        }
        try:
            finished = await _until_disconnect(delivery.run(headers), receive)
        except BrokenOffError:
            entry.outcome = "broken"
        else:
            if finished:
                # Without the usage a client could not know of the discount, and the two bills would differ.
                if self._cache and entry.usage_sent:
                    self._cache.remember(reply.request)
                entry.outcome = "length" if reply.cut else "ok"
            else:
                entry.outcome, entry.disconnected = "disconnected", True
        if not delivery.unbilled:
            self._accounts.biller.bill(entry, delivery.made(clock()))

    def _refuse(self, request: ChatRequest, fault: Fault | None) -> None:
        """Refuses what the vendor would before any work: faults, too many calls in flight, spent limits.

        Raises:
            RejectedError: the vendor would refuse the request.
        """
        if fault and fault.name in REJECTIONS:
            raise self._wire.errors.fault(fault.name, fault.retry_after)
        if fault and fault.name == NO_SCHEMA and request.schema is not None:
            raise self._wire.errors.no_schema()
        # This call is in flight already.
        capacity = self._faults.script.capacity
        if capacity is not None and self._accounts.ledger.in_flight > capacity:
            raise self._wire.errors.fault("429", 1.0)
        wait = self._accounts.rate_limit.exhausted(request.input_tokens)
        if wait is not None:
            raise self._wire.errors.fault("429", wait)

    def _timing(self, reply: Reply, fault: Fault | None) -> Timing:
        timing = self._profile.timing(reply.request.model, reply.request.strategy, len(reply.tokens))
        # Every other call in flight slows this one, as a server does that batches requests.
        late = self._faults.script.slow_per_call * max(0, self._accounts.ledger.in_flight - 1)
        if fault and fault.name == "straggler":
            late += fault.delay
        return Timing(timing.first + late, timing.each)


async def _until_disconnect(work: Coroutine[Any, Any, None], receive: Receive) -> bool:
    """Does the work, but cancels it when the client disconnects; returns whether it was finished."""

    async def disconnected() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.create_task(work), asyncio.create_task(disconnected())
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
    finally:
        watching.cancel()
        # A disconnect must stop the work at once, since every further token is billed.
        working.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
    if working.cancelled():
        return False
    working.result()  # raises the exception of the work, if it has one
    return True
