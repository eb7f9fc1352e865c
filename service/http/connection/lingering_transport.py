"""Wraps a transport so that closing it does not take the response away from a client that still sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LingeringTransport(asyncio.Transport):
    """A transport whose ``close`` and ``is_closing`` are the protocol's.

    A socket that is closed with unread bytes resets the connection, and the client loses a response that it
    has not read yet (RFC 9112, section 9.6).

    Args:
        transport: transport of the connection, to which all else goes directly.
        close: function that closes the connection as the protocol wants it.
        is_closing: function that tells whether it does.
    """

    def __init__(
        self, transport: asyncio.Transport, close: Callable[[], None], is_closing: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._transport = transport
        # Attributes and no methods: every response is written through them.
        self.write = transport.write  # type: ignore[method-assign]
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]
        self.close = close  # type: ignore[method-assign]
        self.is_closing = is_closing  # type: ignore[method-assign]

    def detach(self) -> None:
        """Closes and asks without the protocol from now on, so that no cycle of references is left."""
        self.close = self._transport.close  # type: ignore[method-assign]
        self.is_closing = self._transport.is_closing  # type: ignore[method-assign]
