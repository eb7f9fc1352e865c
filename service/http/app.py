"""The HTTP application: routes, error documents and the middleware around them."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

from service import __version__
from service.http import problems
from service.http.middleware.auth import ApiKeyAuth
from service.http.middleware.body_limit import BodyLimit
from service.http.middleware.observation import Observation
from service.http.routers import events, health, items, pages, recommend
from service.http.services import Services
from service.metrics import Metrics
from service.settings import Settings

DESCRIPTION = """
Multimodal sequential recommendation with vision-language reranking under a deadline.

`POST /recommend?strategy=…` answers with `none` (candidate model), `s1` (LVLM as recommender), `s2` (enhanced
backbone), `s3` (LVLM as reranker), `s4` and `s5` (`s1` and `s3` on captions).
"""


def make_app(
    settings: Settings,
    metrics: Metrics,
    open_services: Callable[[], AbstractAsyncContextManager[Services]],
) -> FastAPI:
    """Makes the application.

    Args:
        settings: limit of the body and API key.
        metrics: where requests are counted.
        open_services: opens what the routes use when the application starts, and closes it when it stops.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_services() as services:
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
    # What is added last runs first: a request gets its id, then shows its key, then its body is measured.
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    api_key = settings.api_key.get_secret_value()
    if api_key:
        app.add_middleware(ApiKeyAuth, api_key=api_key)
    app.add_middleware(Observation, metrics=metrics)
    return app
