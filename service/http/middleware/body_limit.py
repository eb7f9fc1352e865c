"""Refuses request bodies over the limit, whether their length is announced or not.

Starlette has a limit of its own; it answers in plain text, and our errors are problem documents.
"""

from __future__ import annotations

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
                length = int(value)  # the server has checked that it is a number
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
            headers={"Connection": "close"},  # the rest of the body is not read
        )
        await answer(scope, receive, send)

    async def _read(self, receive: Receive) -> bytes | None:
        """Reads a chunked body whole; returns None once it is over the limit."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":  # the client has left
                return bytes(body)
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
