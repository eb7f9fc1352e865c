"""Serves ``/health/live`` and ``/health/ready`` for probes, and ``/metrics`` for Prometheus."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service import __version__
from service.candidates.base import CandidateModel
from service.errors import UnavailableError
from service.generation import Generation
from service.http.routers.dependencies import GenerationOf, ServicesOf
from service.http.schemas import HealthAnswer, Problem
from service.strategies import STRATEGIES

router = APIRouter(tags=["health"])


@router.get("/health/live")
async def live() -> HealthAnswer:
    """The process answers."""
    return HealthAnswer(status="alive", version=__version__)


@router.get("/health/ready", responses={503: {"model": Problem}})
async def ready(services: ServicesOf, generation: GenerationOf) -> HealthAnswer:
    """The bundle is loaded, models are warmed up and the SDKs in use are imported.

    The routes are served only after the lifespan has done all that, so being asked means being ready, until
    the process is about to stop. A simulator or a store that is down is named, and so is a store that cannot
    write, and the service stays ready: recommendations go on without it, and `POST /events` says 503.
    """
    if services.process.draining:
        raise UnavailableError("draining: the service is about to stop and answers what still comes")
    catalogue = generation.catalogue
    redis, events = await asyncio.gather(services.stores.trouble(), services.events.trouble())
    troubles = {"redis": redis, "events": events}
    return HealthAnswer(
        status="ready",
        degraded=[
            *(f"{store}: {trouble}" for store, trouble in troubles.items() if trouble),
            *sorted(services.process.degraded),
        ],
        version=__version__,
        bundle={
            "dataset": catalogue.manifest.dataset,
            "version": catalogue.version,
            "items": len(catalogue.items),
            "users": catalogue.manifest.users,
            "backbones": {name: _facts(generation, model) for name, model in generation.models.items()},
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


def _facts(generation: Generation, model: CandidateModel) -> dict[str, Any]:
    """Returns what a client has to know to choose a backbone, and the strategies that choose it unasked."""
    manifest = model.manifest
    return {
        "family": manifest.family,
        "version": manifest.version,
        "text_view": manifest.text_view,
        "captioner": manifest.captioner,
        "default_for": [name for name, each in STRATEGIES.items() if generation.default_for(each) is model],
    }
