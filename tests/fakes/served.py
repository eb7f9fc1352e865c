"""Serves applications in the test's own event loop, over real sockets; a moved clock holds for them too."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from service.metrics import Metrics
from service.settings import Settings
from service.simulator import app as simulator
from service.simulator.accounting.image_tokens import RULES
from service.simulator.latency_profiles import Instant, Profile
from service.simulator.wire.connection import BreakableProtocol
from service.wiring.application import create_app
from service.wiring.server import bounded_protocol


@asynccontextmanager
async def served(app: Any, **options: Any) -> AsyncIterator[str]:
    """Serves an application until the block ends; yields the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, ws="none", log_config=None, access_log=False, proxy_headers=False, **options
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve([listener]))  # serve() would take the signals
        while not server.started:
            if serving.done():
                await serving
            await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = server.force_exit = True
            with contextlib.suppress(SystemExit):
                await serving


@asynccontextmanager
async def simulator_served(profile: Profile | None = None, **options: Any) -> AsyncIterator[str]:
    """Serves the simulator as ``python -m service.simulator`` does; yields the URL."""
    app = simulator.create_app(profile or Instant(), 0, RULES["patches"], **options)
    async with served(app, http=BreakableProtocol, lifespan="off") as url:
        yield url


@asynccontextmanager
async def service_served(bundle: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Serves the service with these settings, as its own server does; yields a client of it."""
    configured, metrics = Settings(bundle=bundle, **settings), Metrics()
    protocol = bounded_protocol(configured, metrics)
    async with (
        served(create_app(configured, metrics), lifespan="on", http=protocol) as url,
        httpx.AsyncClient(base_url=url, timeout=None, trust_env=False) as http,
    ):
        yield http
