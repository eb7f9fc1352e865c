"""Reads the body of a request, as far as a vendor would."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import Message, Receive

from service.simulator.contracts import RejectedError

MOST = 32 * 2**20  # bytes of a single call; Anthropic's limit
MOST_BATCHED = 256 * 2**20  # bytes of a call that brings many requests; Anthropic's limit


async def read_body(request: Request, most: int = MOST) -> bytearray:
    """Read a whole body; as it grew, since a copy of it may be hundreds of megabytes.

    Raises:
        RejectedError: it has more than ``most`` bytes.
        ClientDisconnect: the client left first.
    """
    body = bytearray()
    async for piece in Request(request.scope, limited(request.receive, most)).stream():
        body += piece
    return body


def limited(receive: Receive, most: int) -> Receive:
    """Receive the messages of a request until its body has more than ``most`` bytes.

    Raises:
        RejectedError: it has; raised where the message is awaited.
    """
    got = 0

    async def receive_some() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > most:
            raise RejectedError(413, "request_too_large", f"Request exceeds the maximum size of {most} bytes")
        return message

    return receive_some
