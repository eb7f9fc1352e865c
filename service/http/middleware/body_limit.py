"""Refuses request bodies over the limit, whether their length is announced or not.

Starlette has a limit of its own; it answers in plain text, and our errors are problem documents.
"""

from __future__ import annotations

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.problems import problem


class BodyLimit:
    """Answers 413 to a request whose body has more than ``max_bytes`` bytes.

    A body of announced length is refused unread; a chunked one is read whole, up to the limit, before the
    route is called.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it before its route is called."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = None
        chunked = False
        for name, value in scope["headers"]:
            if name == b"content-length":
                # The server has checked that these are digits, of which int() takes 4,300 at most.
                length = int(value.lstrip(b"0")[:20] or b"0")
            elif name == b"transfer-encoding":
                chunked = True
        # Without either header there is no body (RFC 9112, 6.3).
        if length is None and chunked:
            body = await self._read(receive)
            if body is not None:
                await self._app(scope, _replay(body, receive), send)
                return
        elif length is None or length <= self._max_bytes:
            await self._app(scope, receive, send)
            return
        answer = problem(
            413,
            "Body too large",
            f"the body may have {self._max_bytes} bytes",
            scope["state"]["request_id"],
            headers={"Connection": "close"},  # the protocol drops the rest of the body
        )
        await answer(scope, receive, send)

    async def _read(self, receive: Receive) -> bytes | None:
        """Reads a chunked body whole; returns None once it is over the limit.

        Raises:
            ClientDisconnect: the client left, or was refused, before the end of the body.
        """
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise ClientDisconnect
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                return None
            if not message.get("more_body", False):
                return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Returns a ``receive`` that gives a body which was read already, then what the server sends next."""
    sent = False

    async def replayed() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
