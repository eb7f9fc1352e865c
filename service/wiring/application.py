"""Makes the whole service as one ASGI application. Importing this module opens nothing."""

from __future__ import annotations

from functools import partial

from fastapi import FastAPI

from service.http.app import make_app
from service.http.process_state import ProcessState
from service.metrics import Metrics
from service.settings import Settings
from service.wiring.services import open_services


def create_app(
    settings: Settings, metrics: Metrics | None = None, process: ProcessState | None = None
) -> FastAPI:
    """Makes the application; its services are opened when it starts and closed when it stops.

    Args:
        settings: settings of the deployment.
        metrics: metrics that it counts in; None for new ones.
        process: state of the process that serves it; None for one that nothing changes.
    """
    metrics, process = metrics or Metrics(), process or ProcessState()
    return make_app(settings, metrics, partial(open_services, settings, metrics, process))
