"""Configures uvicorn: which protocol it speaks, within which limits, and from which sockets it accepts."""

from __future__ import annotations

import asyncio
import socket
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from service.http.connection.open_connections import ConnectionLimits, OpenConnections
from service.http.connection.open_files import connections_possible
from service.http.connection.protocol import BoundedProtocol
from service.metrics import Metrics
from service.settings import Settings

BACKLOG = 2_048
"""Connections at most that the system takes on before the service accepts them."""

ACCEPTS_PER_PASS = 16
"""Connections that are accepted in one pass of the event loop."""


def with_copies(listener: socket.socket) -> list[socket.socket]:
    """Returns a listening socket and copies of it, all of which the server is to be given.

    uvloop accepts one connection of a socket in a pass of the event loop: in a flood of connections a new one
    would wait for as many passes as there are before it.
    """
    return [listener, *(listener.dup() for _ in range(ACCEPTS_PER_PASS - 1))]


def server_config(settings: Settings, app: ASGIApp, metrics: Metrics) -> uvicorn.Config:
    """Makes the configuration of the server of one worker; to be called in its process.

    Args:
        settings: settings of the deployment.
        app: application that is served.
        metrics: metrics of the worker, which count its connections.
    """
    connections = connections_possible(settings.max_connections)
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=bounded_protocol(settings, metrics, connections),
        ws="none",
        lifespan="off",  # the worker opens and closes the application: what goes wrong is an exception there
        # asyncio's own loop accepts as many at once, before it gives any of them to the protocol.
        backlog=min(BACKLOG, connections),
        log_config=None,  # `logs.configure` has set up uvicorn's loggers too
        access_log=False,
        server_header=False,
        proxy_headers=False,  # uvicorn would believe any client of the loopback interface
    )


def bounded_protocol(
    settings: Settings, metrics: Metrics, connections: int | None = None
) -> type[asyncio.Protocol]:
    """Returns what makes the protocol of each connection, with the limits of the settings.

    Args:
        settings: settings of the deployment.
        metrics: metrics of the worker, which count its connections.
        connections: number of connections that may be open; None for that of the settings.
    """
    limits = ConnectionLimits(
        connections=connections or settings.max_connections,
        head_s=settings.head_timeout_s,
        transfer_s=settings.transfer_timeout_s,
        idle_s=settings.idle_timeout_s,
        body_bytes=settings.max_body_bytes,
    )
    # uvicorn only ever calls it.
    return partial(BoundedProtocol, connections=OpenConnections(limits, metrics))  # type: ignore[return-value]
