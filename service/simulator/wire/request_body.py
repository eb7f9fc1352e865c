"""Reads the body of a request, up to the vendors' limits."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import Message, Receive

from service.simulator.contracts import RejectedError

MAX_BODY = 32 * 2**20  # bytes of a single call, Anthropic's limit; beyond, 413
MAX_BATCH_BODY = 256 * 2**20  # bytes of a call that brings many requests, Anthropic's limit; beyond, 413


async def read_body(request: Request, most: int = MAX_BODY) -> bytearray:
    """Reads a whole body into the buffer that is returned; a copy could take hundreds of megabytes.

    Raises:
        RejectedError: the body has more than ``most`` bytes.
        ClientDisconnect: the client left first.
    """
    body = bytearray()
    async for piece in Request(request.scope, limit_body(request.receive, most)).stream():
        # bytearray grows in place, without a copy of what it has.
        body += piece
    return body


def limit_body(receive: Receive, most: int) -> Receive:
    """Wraps an ASGI channel so that a body of more than ``most`` bytes is refused.

    Raises:
        RejectedError: the body is longer; raised where the message is awaited.
    """
    got = 0

    async def receive_limited() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > most:
            raise RejectedError(413, "request_too_large", f"Request exceeds the maximum size of {most} bytes")
        return message

    return receive_limited
