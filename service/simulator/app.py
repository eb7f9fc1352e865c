"""The simulator's HTTP application: both vendors' endpoints, the ledger and health."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from service.simulator import tokens
from service.simulator.answering import Answerer
from service.simulator.anthropic_wire import AnthropicWire
from service.simulator.contracts import Ask, RejectedError, Reply, Wire
from service.simulator.image_tokens import ImageRule
from service.simulator.ledger import Call, Ledger
from service.simulator.openai_wire import OpenAIWire
from service.simulator.pictures import BrokenPictureError
from service.simulator.reading import read_question
from service.simulator.timing import Profile, Timing, paced

_MAX_BODY = 32 * 2**20  # bytes; Anthropic's limit
_MARK = {"x-msr-simulator": "1"}


def create_app(profile: Profile, seed: int, image_rule: ImageRule) -> Starlette:
    """Build the application.

    Args:
        profile: how long answers take.
        seed: breaks ties between equal candidates.
        image_rule: bills pictures of models of no known family on the OpenAI wire.
    """
    ledger = Ledger()
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
                Route(w.path, Endpoint(w, profile, answerer, thinker, ledger), methods=["POST"])
                for w in wires
            ),
            Route("/v1/models", models),
            Route("/ledger", read_ledger),
            Route("/ledger", clear_ledger, methods=["DELETE"]),
            Route("/ledger/{number:int}/picture", picture),
            Route("/health", health),
        ]
    )


class Endpoint:
    """One vendor's endpoint, as an ASGI application: reads, answers, writes at the profile's pace."""

    def __init__(
        self, wire: Wire, profile: Profile, answerer: Answerer, thinker: Executor, ledger: Ledger
    ) -> None:
        self._wire = wire
        self._thinker = thinker
        self._profile = profile
        self._answerer = answerer
        self._ledger = ledger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call and keep its entry in the ledger up to date."""
        started = asyncio.get_running_loop().time()
        request_id = f"req_{uuid.uuid4().hex}"
        with self._ledger.call(self._wire.name) as call:
            try:
                request = Request(scope, receive)
                ask = self._wire.read(request.headers, await _body(request))
                reply = await self._reply(ask, call, request_id)
            except RejectedError as error:
                call.outcome, call.status, call.error = "rejected", error.status, error.message
                await self._send_rejection(error, request_id, scope, receive, send)
                return
            except ClientDisconnect:
                call.outcome, call.disconnected = "disconnected", True
                return
            timing = self._profile.timing(ask.model, ask.strategy, len(reply.tokens))
            # The one place where a scripted fault can replace or bend what is sent: the reply is
            # finished and its timing known, and nothing has been written yet.
            write = self._stream if ask.stream else self._send_whole
            call.status = 200
            if await _unless_gone(write(reply, timing, started, call, send), receive):
                call.outcome = "length" if reply.cut else "ok"
            else:
                call.outcome, call.disconnected = "disconnected", True

    async def _reply(self, ask: Ask, call: Call, request_id: str) -> Reply:
        question = read_question(ask)
        call.model, call.strategy, call.kind = ask.model, ask.strategy, question.form.value
        call.input_tokens, call.image_tokens = ask.input_tokens, ask.image_tokens
        call.streamed, call.pictures = ask.stream, len(ask.pictures)
        self._ledger.keep(call, ask.pictures)
        try:
            loop = asyncio.get_running_loop()
            text = await loop.run_in_executor(self._thinker, self._answerer.answer, ask, question)
        except BrokenPictureError as error:
            raise RejectedError(400, "invalid_request_error", f"Could not process image: {error}") from error
        pieces = tokens.split(text)
        cut = ask.max_tokens is not None and ask.max_tokens < len(pieces)
        reply = Reply(request_id, int(time.time()), ask, pieces[: ask.max_tokens], cut)
        call.output_tokens = len(reply.tokens)
        return reply

    async def _send_rejection(
        self, error: RejectedError, request_id: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        headers = {**self._wire.headers(request_id, 0.0, self._ledger.spend(0)), **_MARK}
        response = JSONResponse(self._wire.rejection(error, request_id), error.status, headers=headers)
        await response(scope, receive, send)

    async def _send_whole(self, reply: Reply, timing: Timing, started: float, call: Call, send: Send) -> None:
        total = Timing(timing.total(len(reply.tokens)), 0.0)
        async for _ in paced(reply.tokens, total, started):
            await self._start(reply, started, "application/json", send)
            await _write(send, json.dumps(self._wire.message(reply)).encode(), more=False)
            call.tokens_sent = len(reply.tokens)

    async def _stream(self, reply: Reply, timing: Timing, started: float, call: Call, send: Send) -> None:
        opening = self._wire.opening(reply)
        async for due in paced(reply.tokens, timing, started):
            if not call.tokens_sent:
                await self._start(reply, started, "text/event-stream; charset=utf-8", send)
            events = b"".join(self._wire.piece(reply, token) for token in due)
            await _write(send, opening + events, more=True)
            opening = b""
            call.tokens_sent += len(due)
        await _write(send, self._wire.closing(reply), more=False)

    async def _start(self, reply: Reply, started: float, content_type: str, send: Send) -> None:
        seconds = asyncio.get_running_loop().time() - started
        allowance = self._ledger.spend(reply.ask.input_tokens + len(reply.tokens))
        headers = {
            "content-type": content_type,
            **self._wire.headers(reply.request_id, seconds, allowance),
            **_MARK,
        }
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})


async def _write(send: Send, body: bytes, more: bool) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


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
