"""Serves ``/health/live`` and ``/health/ready`` for probes, and ``/metrics`` for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service import __version__
from service.errors import UnavailableError
from service.http.routers.dependencies import GenerationOf, ServicesOf
from service.http.schemas import HealthAnswer, Problem

router = APIRouter(tags=["health"])


@router.get("/health/live")
async def live() -> HealthAnswer:
    """The process answers."""
    return HealthAnswer(status="alive", version=__version__)


@router.get("/health/ready", responses={503: {"model": Problem}})
async def ready(services: ServicesOf, generation: GenerationOf) -> HealthAnswer:
    """The bundle is loaded, models are warmed up and the SDKs in use are imported.

    The routes are served only after the lifespan has done all that, so being asked means being ready, until
    the process is about to stop; a Redis or a simulator that is down is named and does not make the service
    unready.
    """
    if services.process.draining:
        raise UnavailableError("draining: the service is about to stop and answers what still comes")
    catalogue = generation.catalogue
    down = [] if await services.stores.ping() else ["redis"]
    return HealthAnswer(
        status="ready",
        degraded=[*down, *sorted(services.process.degraded)],
        version=__version__,
        bundle={
            "dataset": catalogue.manifest.dataset,
            "version": catalogue.version,
            "items": len(catalogue.items),
            "users": catalogue.manifest.users,
            "backbones": {
                name: backbone.manifest.version for name, backbone in generation.bundle.backbones.items()
            },
        },
    )


@router.get("/metrics", response_class=Response, responses={503: {"model": Problem}})
async def metrics(services: ServicesOf) -> Response:
    """Prometheus exposition of all workers, with what happened before the request."""
    try:
        text = await services.metrics.expose()
    except OSError:
        # This worker's own values would look like a reset of every counter.
        raise UnavailableError(
            "the parent process, which has the metrics of all workers, does not answer", retry_after=5
        ) from None
    return Response(text, media_type=CONTENT_TYPE_LATEST)
