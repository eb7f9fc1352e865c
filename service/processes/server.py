"""Serves HTTP on sockets that are open already, and stops without resetting a request."""

from __future__ import annotations

import array
import asyncio
import fcntl
import logging
import socket
import termios
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import uvicorn

from service.processes.listener import close_for_all, hold_back, waiting_connections
from service.wiring.server import with_copies

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as _Protocol
else:
    _Protocol = object

LAST_CONNECTIONS_SECONDS = 0.05
"""Seconds in which handshakes that are under way end, before the listeners are closed."""
FIRST_REQUEST_SECONDS = 1.0
"""Seconds that a new connection is kept while the server stops: its first request may be on the way."""
_POLL_SECONDS = 0.05

logger = logging.getLogger("service.processes")


class StoppableServer(uvicorn.Server):
    """A server that is stopped in steps: announced, closed for new connections, and finished.

    It leaves signals alone.

    Args:
        config: configuration of the server, with an application that is open already.
        listeners: bound sockets, which it listens on and closes.
    """

    def __init__(self, config: uvicorn.Config, listeners: Sequence[socket.socket]) -> None:
        super().__init__(config)
        self._listeners = list(listeners)
        self._ticking: asyncio.Task[None] | None = None
        self._closing = False

    async def start(self) -> None:
        """Listens.

        Raises:
            OSError: another process has begun to listen on the port, or no file can be opened any more.
        """
        config = self.config
        if not config.loaded:
            config.load()
        config.http_protocol_class = _stopping(config.http_protocol_class, self)  # type: ignore[assignment]
        self.lifespan = config.lifespan_class(config)
        await self.on_tick(0)
        # The copies share one queue of connections: what is done to a listener is done to all of its copies.
        await self.startup(sockets=[copy for each in self._listeners for copy in with_copies(each)])
        self._ticking = asyncio.create_task(self.main_loop())  # keeps the Date header

    def announce(self) -> None:
        """Closes every connection with its next answer, so that clients turn to another service."""
        self._closing = True

    @property
    def closing(self) -> bool:
        """Whether the next answer on each connection is the last."""
        return self._closing

    async def close_listeners(self) -> None:
        """Accepts what has come, then closes the listeners for all processes that share them."""
        self.announce()
        hold_back(self._listeners)
        await asyncio.sleep(LAST_CONNECTIONS_SECONDS)
        loop = asyncio.get_running_loop()
        for connection in waiting_connections(self._listeners):
            await loop.connect_accepted_socket(self._protocol, connection)
        for server in self.servers:
            server.close()
        close_for_all(self._listeners)

    async def finish(self, until: float) -> None:
        """Lets the requests under way end, and closes each connection when it is idle.

        Args:
            until: time of the event loop at which what is left is cut.
        """
        loop, state = asyncio.get_running_loop(), self.server_state
        while (state.connections or state.tasks) and loop.time() < until and not self.force_exit:
            for connection in list(state.connections):
                connection.shutdown()
            await asyncio.sleep(_POLL_SECONDS)
        if state.tasks:
            logger.warning("%d requests were under way when the time to stop was over", len(state.tasks))
        for connection in list(state.connections):
            cast("_Stopping", connection).abort()
        # uvicorn logs a traceback for each of them.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        for task in list(state.tasks):
            task.cancel()
        self.should_exit = True
        if self._ticking is not None:
            await self._ticking

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


def _stopping(protocol: Callable[..., Any], server: StoppableServer) -> Callable[..., Any]:
    """Returns a maker of connections like ``protocol``, a class or a ``partial`` of one, that stop well."""
    if isinstance(protocol, partial):
        return partial(_stopping(protocol.func, server), *protocol.args, **protocol.keywords)
    assert isinstance(protocol, type)
    return type("Connection", (_Stopping, protocol), {"stopping_server": server})


class _Stopping(_Protocol):
    """Makes a connection stop well; the protocol's class comes after it among the bases."""

    stopping_server: StoppableServer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._made_at = self.loop.time()
        self._raw_transport = transport  # the protocol may wrap it
        self._closing_cycle: Any = None  # the request whose answer closes it because the server stops
        super().connection_made(transport)

    def on_headers_complete(self) -> None:
        before: Any = self.cycle  # None before the first request
        super().on_headers_complete()
        if self.stopping_server.closing and self.cycle is not before:
            # Of several requests that came at once the last one closes: all of them are answered.
            if before is not None and before is self._closing_cycle and not before.response_started:
                before.keep_alive = True
            self._closing_cycle, self.cycle.keep_alive = self.cycle, False

    def shutdown(self) -> None:
        """Closes the connection if it is idle; else it closes after its last answer."""
        if not self.transport.is_closing() and not self._is_expecting():
            super().shutdown()

    def abort(self) -> None:
        """Closes the connection at once, whatever is under way."""
        self._raw_transport.abort()

    def _is_expecting(self) -> bool:
        """Returns whether a request has begun to come, or may be on the way on a new connection."""
        scope: Any = self.scope  # None before the first request
        if scope is not None and "method" not in scope:  # in the middle of a head
            return True
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            return False
        if cycle is None and self.loop.time() - self._made_at < FIRST_REQUEST_SECONDS:
            return True
        unread = array.array("i", [0])
        try:
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.FIONREAD, unread)
        except (OSError, ValueError):  # closed by the client
            return False
        return unread[0] > 0
