"""Speaks HTTP/1.1 as uvicorn does, within limits of size, number and time that hold for every client."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from service.http.connection.bounded_parsing import (
    MOST_HEAD_BYTES,
    BoundedParsing,
    Part,
    RefusedRequestError,
)
from service.http.connection.lingering_transport import LingeringTransport
from service.http.connection.open_connections import NEVER, OpenConnections, Phase
from service.http.connection.refusals import (
    BODY_TIME,
    DISPLACED,
    FRAMING,
    HEAD_TIME,
    SILENT,
    UNREAD,
    Refusal,
)
from service.web_addresses import network_of

RAW_PER_BODY_BYTE = 8
"""Bytes on the wire for each byte that a body may have; a chunk of one byte has six."""
PIPELINED_BYTES = 4_096
"""Bytes of memory, about, that a waiting request takes beside what was sent of it."""
MOST_DISCARDED_BYTES = 16 * 2**20
"""Bytes of a refused client that are read and dropped; it can send no more, while it may still read."""


class BoundedProtocol(BoundedParsing):
    """uvicorn's protocol with limits, and with problem documents for what is no HTTP.

    Args:
        config: configuration of the server.
        server_state: state that uvicorn's connections share.
        app_state: state of the application's lifespan.
        _loop: event loop; None for the running one.
        connections: connections of this worker, one of which this is.
    """

    transport: LingeringTransport

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections: OpenConnections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # See `open_connections.Connection`.
        self.phase = Phase.HEAD
        self.deadline = self.stall_deadline = NEVER
        self.unread = 0
        self.client_network = ""
        self._connections = connections
        self._most_raw_bytes = MOST_HEAD_BYTES + RAW_PER_BODY_BYTE * connections.limits.body_bytes
        self._socket: asyncio.Transport = None  # type: ignore[assignment]
        self._running: RequestResponseCycle | None = None  # request that the application has, or had last
        self._deaf = False  # whether nothing more is parsed, because something was refused
        self._discarded = 0  # bytes

    # Of the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes the connection in, or refuses it where there are too many."""
        self._socket = transport
        super().connection_made(LingeringTransport(transport, self._close, self._is_closing))
        self.client_network = network_of(self.client[0] if self.client else "")
        self._connections.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells the application that the client is gone, and forgets the connection."""
        self._give_up()
        self.phase = Phase.ENDING
        self._connections.forget(self)
        super().connection_lost(exc)
        self.transport.detach()

    def eof_received(self) -> None:
        """Closes the connection: a client that has closed its side is taken for one that has left."""
        self._give_up()
        if self.phase != Phase.LINGERING:
            self._connections.enter(self, Phase.ENDING)

    def pause_writing(self) -> None:
        """Notes that the client does not take what it is sent."""
        super().pause_writing()
        if self.phase != Phase.ENDING:
            self._connections.stalled(self, self._socket.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Notes that it does."""
        super().resume_writing()
        self._connections.taken(self)

    def data_received(self, data: bytes) -> None:
        """Parses what came, as far as the limits allow."""
        if self._deaf or self.phase >= Phase.LINGERING:
            self._discard(len(data))
            return
        self._connections.received(self, len(data))
        if self.phase >= Phase.LINGERING:  # this was the largest request of too many
            return
        try:
            self.parse(data)
            self._settle(received=True)
            if self.phase == Phase.HEAD and self.part == Part.BETWEEN:
                self.count_head(len(data))
        except RefusedRequestError as error:
            self._refuse(error.refusal)
            return
        if self.pipeline:
            self._connections.received(self, PIPELINED_BYTES * len(self.pipeline))
        if self.part == Part.BODY and self.held > self._most_raw_bytes:
            self._refuse(FRAMING)

    # Of the application

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        self._connections.turns.take(self.client_network, partial(self._start, cycle, app))

    def _start(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if not cycle.disconnected:
            super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Starts the next request, or waits for it; uvicorn's own timer for that is not needed."""
        self.server_state.total_requests += 1
        if self.phase >= Phase.LINGERING:
            return
        self._connections.released(self, 1 + len(self.pipeline))
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.part == Part.BODY and self.expect_100_continue:
            # The client may send the body or not: what comes next is ambiguous (RFC 9110, section 10.1.1).
            self._linger()
        self._settle(received=False)

    def _unsupported_upgrade_warning(self) -> None:
        """Says nothing: the request is answered, and any client could fill the log."""

    # Of the worker's list of connections

    def expire(self) -> None:
        """Ends what has lasted too long."""
        if self.stall_deadline <= self._connections.sweeps:
            self.cut(UNREAD)
        elif self.phase == Phase.HEAD and self.held:
            self._refuse(HEAD_TIME)
        elif self.phase == Phase.HEAD:
            self._connections.count(SILENT)
            self._end()
        elif self.phase == Phase.BODY and self.flow.read_paused:  # the client waits for the application
            self._connections.enter(self, Phase.BODY)
        elif self.phase == Phase.BODY:
            self._refuse(BODY_TIME)
        elif self.phase in (Phase.IDLE, Phase.REST) and not self._socket.get_write_buffer_size():
            self._end()
        else:
            self._abort()

    def displace(self) -> None:
        """Closes the connection for a new one; a request that has begun is told so."""
        if self.held:
            self.cut(DISPLACED)
        else:
            self._connections.count(DISPLACED)
            self._end()

    def cut(self, refusal: Refusal) -> None:
        """Refuses the connection although its request is worked on."""
        self._connections.count(refusal)
        self._reject(refusal)

    # Ends of a connection

    def _settle(self, *, received: bool) -> None:
        """Notes what the connection waits for now.

        Args:
            received: whether bytes have come since the last answer.
        """
        if self.phase >= Phase.LINGERING:
            return
        running = self._running
        if running is not None and not running.response_complete:
            incomplete = self.part == Part.BODY and running is self.cycle
            phase = Phase.BODY if incomplete else Phase.ANSWERING
        elif self.part != Part.BETWEEN:
            phase = Phase.REST if self.part == Part.BODY else Phase.HEAD
        else:
            # Not every byte belongs to a message: blank lines may precede it (RFC 9112, section 2.2).
            phase = Phase.HEAD if received and self.phase != Phase.REST else Phase.IDLE
        if phase != self.phase:
            self._connections.enter(self, phase)

    def _refuse(self, refusal: Refusal) -> None:
        """Refuses what the client is sending; requests that came whole before it are still answered."""
        self._connections.count(refusal)
        running, cycle = self._running, self.cycle
        if self.part == Part.BODY and self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()  # it waits, and will never be complete
        elif running is None or running.response_complete or (self.part == Part.BODY and running is cycle):
            self._reject(refusal)
            return
        last = self.pipeline[0][0] if self.pipeline else running
        assert last is not None
        last.keep_alive = False
        self._deaf = True
        self._settle(received=False)

    def _reject(self, refusal: Refusal) -> None:
        """Ends the connection: with the refusal's response, where no other one has begun."""
        running = self._running
        answered = running is not None and running.response_complete
        begun = running is not None and running.response_started and not answered
        self._give_up()
        if begun or refusal.status is None:
            self._abort()
            return
        if not (answered and self.part == Part.BODY):
            self._socket.write(refusal.response(self.server_state.default_headers))
        self._linger()

    def _give_up(self) -> None:
        """Tells the application that the answer under way has no reader, and drops requests that wait."""
        self.pipeline.clear()
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        self.flow.resume_writing()  # a sender that waits sees that there is no reader

    def _is_closing(self) -> bool:
        return self.phase >= Phase.LINGERING

    def _close(self) -> None:
        """Closes the connection after an answer, or at the end of the service."""
        if self.phase >= Phase.LINGERING:
            return
        if self.part == Part.BETWEEN and not self._deaf:
            self._end()
        else:
            self._linger()

    def _linger(self) -> None:
        """Closes this side, and drops what the client still sends while it may read the response."""
        if self._socket.is_closing():
            return
        self._connections.enter(self, Phase.LINGERING)
        self.flow.resume_reading()
        self._socket.write_eof()

    def _discard(self, count: int) -> None:
        self._discarded += count
        if self._discarded > MOST_DISCARDED_BYTES:
            self.flow.pause_reading()

    def _end(self) -> None:
        """Closes the connection once all is sent."""
        self._connections.enter(self, Phase.ENDING)
        self._socket.close()

    def _abort(self) -> None:
        """Closes the connection at once."""
        self._connections.enter(self, Phase.ENDING)
        self.deadline = NEVER
        self._socket.abort()
