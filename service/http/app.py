"""Makes the HTTP application: routes, error documents and the middleware around them."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from starlette.routing import Route

from service import __version__
from service.http import problems
from service.http.description import DescribedApp
from service.http.middleware.admission import Admission
from service.http.middleware.auth import ApiKeyAuth
from service.http.middleware.body_limit import BodyLimit
from service.http.middleware.client_limits import PROBES, ClientRequestLimit
from service.http.middleware.cross_origin import CrossOrigin
from service.http.middleware.hosts_and_origins import HostRule, OriginRule
from service.http.middleware.observation import Observation
from service.http.middleware.paths import Paths
from service.http.middleware.trusted_proxies import TrustedProxies
from service.http.routers import events, health, items, pages, recommend
from service.http.services import Services
from service.http.web_files import ASSETS
from service.metrics import Metrics
from service.settings import Settings

DESCRIPTION = """
Multimodal sequential recommendation with vision-language reranking under a deadline.

`POST /recommend?strategy=…` answers with `none` (candidate model), `s1` (LVLM as recommender), `s2` (enhanced
backbone), `s3` (LVLM as reranker), `s4` and `s5` (`s1` and `s3` on captions).
"""

ROUTERS = (recommend, items, events, health, pages)

OPEN_PATHS = frozenset({"/", *PROBES, *(f"/assets/{name}" for name in ASSETS)})
"""Paths that are answered without a key: probes, Prometheus and browsers that load the page send none."""

HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
"""Headers of every answer, besides ``Cross-Origin-Resource-Policy``: no other page shows our pictures, or
loads anything of ours as a script, unless ``MSR_CORS_ORIGINS`` has let pages in."""


def make_app(
    settings: Settings,
    metrics: Metrics,
    open_services: Callable[[], AbstractAsyncContextManager[Services]],
) -> FastAPI:
    """Makes the application.

    Args:
        settings: settings of the deployment, of which those of paths, clients, keys and bodies are read here.
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

    app = DescribedApp(
        title="MSR Serve",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # ours is in `pages`, from our own files
        redoc_url=None,
        servers=[{"url": settings.root_path}] if settings.root_path else None,
        redirect_slashes=False,  # `Paths` sees to them; a redirect would name the host that a client claims
        strict_content_type=False,  # a body without a content type is JSON
        telemetry={"metrics": False, "logs": False},  # Prometheus has the metrics; traces stay possible
    )
    problems.install(app)
    for module in ROUTERS:
        app.include_router(module.router)
    _add_middleware(app, settings, metrics)
    return app


def _add_middleware(app: DescribedApp, settings: Settings, metrics: Metrics) -> None:
    # What is added last runs first: a request gets its client, path and id, then its host and its page are
    # judged, then it shows its key, then is counted for its client, then its body is measured.
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    if settings.client_requests_per_minute:
        app.add_middleware(ClientRequestLimit)
    api_key, read_key = settings.api_key.get_secret_value(), settings.read_key.get_secret_value()
    if api_key:
        app.open_paths = OPEN_PATHS if settings.metrics_open else OPEN_PATHS - {"/metrics"}
        app.add_middleware(ApiKeyAuth, api_key=api_key, read_key=read_key, open_paths=app.open_paths)
    hosts = HostRule(settings.host, settings.allowed_hosts)
    app.add_middleware(Admission, hosts=hosts, origins=OriginRule(settings.cors_origins))
    if settings.cors_origins:
        app.add_middleware(CrossOrigin, origins=settings.cors_origins)
    sharing = b"cross-origin" if settings.cors_origins else b"same-origin"
    app.add_middleware(
        Observation,
        metrics=metrics,
        headers=(*HEADERS, (b"cross-origin-resource-policy", sharing)),
    )
    routes = (route for module in ROUTERS for route in module.router.routes if isinstance(route, Route))
    fixed = {"/openapi.json", *(route.path for route in routes if "{" not in route.path)}
    app.add_middleware(Paths, root_path=settings.root_path, fixed=fixed)
    if settings.trusted_proxies:
        app.add_middleware(TrustedProxies, proxies=settings.trusted_proxies)
