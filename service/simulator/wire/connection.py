"""Sends a response piece by piece, and breaks connections off as faults ask."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping

from starlette.types import Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_TRANSPORT = "transport"  # key of the scope's state


class BreakableProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which also hands its transport to the application."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Puts the transport into the state that uvicorn copies into the scope of every request."""
        super().connection_made(transport)
        # uvicorn copies app_state into scope["state"] of each request of this connection.
        self.app_state = {**self.app_state, _TRANSPORT: transport}


def reset_connection(scope: Scope) -> None:
    """Resets the connection of a request: the client sees RST, not an orderly end."""
    transport: asyncio.Transport = scope["state"][_TRANSPORT]
    connection = transport.get_extra_info("socket")
    if connection is not None:
        # Lingering for 0 seconds makes the kernel send RST and drop what was not sent (socket(7), SO_LINGER).
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def close_connection(scope: Scope) -> None:
    """Ends the connection of a request in an orderly way in the middle of an answer."""
    scope["state"][_TRANSPORT].close()


class OpenResponse:
    """One HTTP response with status 200, sent piece by piece.

    Args:
        scope: ASGI scope of the request.
        send: ASGI channel of the request.
    """

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send

    async def start(self, headers: Mapping[str, str]) -> None:
        """Sends status and headers."""
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})

    async def write(self, body: bytes, *, more: bool = True) -> None:
        """Sends a piece of the body; ``more`` is False for the last one."""
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    def reset(self) -> None:
        """Resets the connection."""
        reset_connection(self._scope)

    def close(self) -> None:
        """Closes the connection, even if a part of the body is missing."""
        close_connection(self._scope)
