"""Makes the HTTP application: routes, error documents and the middleware around them."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

from service import __version__
from service.http import problems
from service.http.middleware.auth import ApiKeyAuth
from service.http.middleware.body_limit import BodyLimit
from service.http.middleware.client_limits import ClientRequestLimit
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
        settings: settings of the deployment, of which the body limit and the API key are read here.
        metrics: metrics that count the requests.
        open_services: context that opens what the routes use, entered at the start and left at the stop.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_services() as services:
            app.state.services = services
            # What is open now stays until the end. Without the freeze every full garbage collection walks two
            # SDKs and a catalogue again, and delays some request.
            gc.collect()
            gc.freeze()
            yield

    app = FastAPI(
        title="MSR Serve",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        telemetry={"metrics": False, "logs": False},  # Prometheus has the metrics; traces stay possible
    )
    problems.install(app)
    for module in (recommend, items, events, health, pages):
        app.include_router(module.router)
    # What is added last runs first: a request gets its id, then shows its key, then is counted for its
    # client, then its body is measured.
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    if settings.client_requests_per_minute:
        app.add_middleware(ClientRequestLimit)
    api_key = settings.api_key.get_secret_value()
    if api_key:
        app.add_middleware(ApiKeyAuth, api_key=api_key)
    app.add_middleware(Observation, metrics=metrics)
    return app
