"""The simulator's HTTP application: both vendors' endpoints, the ledger and health."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict
from math import ceil
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from service.simulator import tokens
from service.simulator.answering import Answerer
from service.simulator.anthropic_wire import AnthropicWire
from service.simulator.bending import bend
from service.simulator.billing import Biller
from service.simulator.contracts import Ask, RejectedError, Reply, Wire
from service.simulator.delivery import BrokenOffError, Delivery
from service.simulator.faults import ANSWERS, REJECTIONS, Fault, Faults, Script, ScriptError, read_script
from service.simulator.image_tokens import ImageRule
from service.simulator.ledger import Call, Ledger
from service.simulator.obeying import obey, overheard
from service.simulator.openai_wire import OpenAIWire
from service.simulator.pictures import BrokenPictureError
from service.simulator.prompt_cache import PromptCache
from service.simulator.reading import read_question
from service.simulator.timing import Profile, Timing

_MAX_BODY = 32 * 2**20  # bytes; Anthropic's limit
_MARK = {"x-msr-simulator": "1"}


def create_app(
    profile: Profile,
    seed: int,
    image_rule: ImageRule,
    script: Script | None = None,
    *,
    prompt_cache: bool = False,
) -> Starlette:
    """Build the application.

    Args:
        profile: how long answers take.
        seed: breaks ties between equal candidates.
        image_rule: bills pictures of models of no known family on the OpenAI wire.
        script: of faults, to begin with.
        prompt_cache: bill a prompt that came before, on the OpenAI wire, as cached.
    """
    ledger = Ledger()
    faults = Faults(script, seed)
    _set_limits(ledger, faults.script)
    biller, cache = Biller(), PromptCache() if prompt_cache else None
    answerer = Answerer(seed)
    thinker = ThreadPoolExecutor(max_workers=1)
    wires: tuple[Wire, ...] = (OpenAIWire(image_rule), AnthropicWire())

    async def health(request: Request) -> Response:
        load = {"in_flight": ledger.in_flight, "peak_in_flight": ledger.peak_in_flight}
        return JSONResponse({"status": "ok", "profile": profile.name, **load}, headers=_MARK)

    async def models(request: Request) -> Response:
        model = {"id": "simulator", "object": "model", "created": 0, "owned_by": "msr-serve"}
        return JSONResponse({"object": "list", "data": [model]}, headers=_MARK)

    async def read_ledger(request: Request) -> Response:
        return JSONResponse(ledger.rows(), headers=_MARK)

    async def summarise_ledger(request: Request) -> Response:
        return JSONResponse(ledger.summary(), headers=_MARK)

    async def read_faults(request: Request) -> Response:
        return JSONResponse(
            {"script": asdict(faults.script), "phase": faults.phase and asdict(faults.phase)}, headers=_MARK
        )

    async def set_faults(request: Request) -> Response:
        try:
            faults.play(read_script(await request.json()))
        except (ScriptError, ValueError) as error:
            return JSONResponse({"error": f"not a script of faults: {error}"}, 400, headers=_MARK)
        _set_limits(ledger, faults.script)
        return Response(status_code=204, headers=_MARK)

    async def clear_faults(request: Request) -> Response:
        faults.play(Script())
        _set_limits(ledger, faults.script)
        return Response(status_code=204, headers=_MARK)

    async def clear_ledger(request: Request) -> Response:
        ledger.clear()
        return Response(status_code=204, headers=_MARK)

    async def picture(request: Request) -> Response:
        index = request.query_params.get("index", "0")
        kept = ledger.picture(request.path_params["number"], int(index)) if index.isdecimal() else None
        if kept is None:
            return JSONResponse({"error": "no such picture, or no longer kept"}, 404, headers=_MARK)
        return Response(kept.data, media_type=kept.media_type, headers=_MARK)

    return Starlette(
        routes=[
            *(
                Route(
                    w.path,
                    Endpoint(w, profile, answerer, thinker, ledger, faults, biller, cache),
                    methods=["POST"],
                )
                for w in wires
            ),
            Route("/v1/models", models),
            Route("/ledger", read_ledger),
            Route("/ledger", clear_ledger, methods=["DELETE"]),
            Route("/ledger/summary", summarise_ledger),
            Route("/ledger/{number:int}/picture", picture),
            Route("/faults", read_faults),
            Route("/faults", set_faults, methods=["PUT"]),
            Route("/faults", clear_faults, methods=["DELETE"]),
            Route("/health", health),
        ]
    )


class Endpoint:
    """One vendor's endpoint, as an ASGI application: reads, answers, writes at the profile's pace."""

    def __init__(
        self,
        wire: Wire,
        profile: Profile,
        answerer: Answerer,
        thinker: Executor,
        ledger: Ledger,
        faults: Faults,
        biller: Biller,
        cache: PromptCache | None,
    ) -> None:
        self._wire = wire
        self._thinker = thinker
        self._profile = profile
        self._answerer = answerer
        self._ledger = ledger
        self._faults = faults
        self._biller = biller
        self._cache = cache

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call and keep its entry in the ledger up to date."""
        started = asyncio.get_running_loop().time()
        request_id = f"req_{uuid.uuid4().hex}"
        with self._ledger.call(self._wire.name) as call:
            try:
                request = Request(scope, receive)
                ask = self._wire.read(request.headers, await _body(request))
                call.model = ask.model
                fault = self._faults.meet(ask.model)
                call.fault = fault.name if fault else None
                self._refuse(ask, fault)
                reply = await self._reply(ask, call, request_id, fault)
            except RejectedError as error:
                call.outcome, call.status, call.error = "rejected", error.status, error.message
                await self._send_rejection(error, request_id, scope, receive, send)
                return
            except ClientDisconnect:
                call.outcome, call.disconnected = "disconnected", True
                return
            timing = self._timing(reply, fault)
            delivery = Delivery(
                self._wire, reply, timing, started, call, send, scope, self._ledger.allowance()
            )
            call.status = 200
            try:
                finished = await _unless_gone(delivery.run(fault), receive)
            except BrokenOffError:
                call.outcome = "broken"
            else:
                if finished:
                    if self._cache:
                        self._cache.remember(ask)
                    call.outcome = "length" if reply.cut else "ok"
                else:
                    call.outcome, call.disconnected = "disconnected", True
            if not delivery.worthless:
                self._biller.bill(call, delivery.made(asyncio.get_running_loop().time()))

    def _refuse(self, ask: Ask, fault: Fault | None) -> None:
        """Refuse what the vendor would refuse before any work.

        Raises:
            RejectedError: it does.
        """
        if fault and fault.name in REJECTIONS:
            raise self._wire.fault(fault.name, fault.retry_after)
        capacity = self._faults.script.capacity
        if capacity is not None and self._ledger.in_flight > capacity:
            raise self._wire.fault("429", 1.0)
        wait = self._ledger.exhausted(ask.input_tokens)
        if wait is not None:
            raise self._wire.fault("429", wait)

    def _timing(self, reply: Reply, fault: Fault | None) -> Timing:
        timing = self._profile.timing(reply.ask.model, reply.ask.strategy, len(reply.tokens))
        late = self._faults.script.slow_per_call * max(0, self._ledger.in_flight - 1)
        if fault and fault.name == "straggler":
            late += fault.delay
        return Timing(timing.first + late, timing.each)

    async def _reply(self, ask: Ask, call: Call, request_id: str, fault: Fault | None) -> Reply:
        question = read_question(ask)
        call.strategy, call.kind = ask.strategy, question.form.value
        call.input_tokens, call.image_tokens = ask.input_tokens, ask.image_tokens
        call.streamed, call.pictures = ask.stream, len(ask.pictures)
        self._ledger.keep(call, ask.pictures)
        orders = overheard(ask) if self._faults.script.obey else ()
        try:
            loop = asyncio.get_running_loop()
            text = await loop.run_in_executor(self._thinker, self._answerer.answer, ask, question)
        except BrokenPictureError as error:
            raise RejectedError(400, "invalid_request_error", f"Could not process image: {error}") from error
        if orders:
            text = obey(orders, text, question)
        if fault and fault.name in ANSWERS:
            text = bend(fault.name, text, question)
        pieces = tokens.split(text)
        cut = ask.max_tokens is not None and ask.max_tokens < len(pieces)
        if self._cache and self._wire.name == "openai":
            call.cached_input_tokens = self._cache.tokens(ask)
        half = bool(fault and fault.name in ("half_label", "endless"))
        reply = Reply(
            request_id,
            int(time.time()),
            ask,
            pieces[: ask.max_tokens],
            cut or half,
            refused=bool(fault and fault.name == "refusal"),
            cached_tokens=call.cached_input_tokens,
        )
        call.output_tokens = len(reply.tokens)
        self._ledger.spend(reply.ask.input_tokens + len(reply.tokens))
        return reply

    async def _send_rejection(
        self, error: RejectedError, request_id: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        headers = {**self._wire.headers(request_id, 0.0, self._ledger.allowance()), **_MARK}
        if error.retry_after is not None:
            headers["retry-after"] = str(ceil(error.retry_after))
            if self._wire.name == "openai":
                headers["retry-after-ms"] = str(ceil(1000 * error.retry_after))
        response = JSONResponse(self._wire.rejection(error, request_id), error.status, headers=headers)
        await response(scope, receive, send)


def _set_limits(ledger: Ledger, script: Script) -> None:
    ledger.limit(script.requests_per_minute, script.tokens_per_minute)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_BODY:
            raise RejectedError(
                413, "request_too_large", f"Request exceeds the maximum size of {_MAX_BODY} bytes"
            )
    return bytes(body)


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
