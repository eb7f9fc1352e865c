"""The application: ``create_app(settings)``. Importing this module does nothing."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from service import __version__, logs, problems
from service.body_limit import BodyLimit
from service.key import KeyCheck
from service.metrics import Metrics
from service.observation import Observation
from service.routers import events, health, items, pages, recommend
from service.settings import Settings, read_settings
from service.wiring.services import open_services

DESCRIPTION = """
Multimodal sequential recommendation with vision-language reranking under a deadline.

`POST /recommend?strategy=…` answers with `none` (candidate model), `s1` (LVLM as recommender), `s2` (enhanced
backbone), `s3` (LVLM as reranker), `s4` and `s5` (`s1` and `s3` on captions).
"""


def create_app(settings: Settings) -> FastAPI:
    """Make the application; everything it needs is opened when it starts and closed when it stops."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_services(settings, metrics) as services:
            app.state.services = services
            # What is open now stays: without this every full collection walks two SDKs and a catalogue again,
            # and some request waits for it.
            gc.collect()
            gc.freeze()
            yield

    app = FastAPI(
        title="MSR Serve",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        telemetry={"metrics": False, "logs": False},  # ours are Prometheus's; traces stay possible
    )
    problems.install(app)
    for module in (recommend, items, events, health, pages):
        app.include_router(module.router)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    api_key = settings.api_key.get_secret_value()
    if api_key:
        app.add_middleware(KeyCheck, api_key=api_key)
    app.add_middleware(Observation, metrics=metrics)
    return app


def create_app_from_environment() -> FastAPI:
    """What worker processes call: settings from ``MSR_…`` variables."""
    settings = read_settings()
    logs.configure(settings.log_level, settings.log_format)
    return create_app(settings)
