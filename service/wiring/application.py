"""Makes the whole service as one ASGI application. Importing this module opens nothing."""

from __future__ import annotations

from functools import partial

from fastapi import FastAPI

from service import logs
from service.http.app import make_app
from service.metrics import Metrics
from service.settings import Settings, read_settings
from service.wiring.services import open_services


def create_app(settings: Settings, metrics: Metrics | None = None) -> FastAPI:
    """Makes the application; its services are opened when it starts and closed when it stops.

    Args:
        settings: settings of the deployment.
        metrics: metrics of the process; None for new ones.
    """
    metrics = metrics or Metrics()
    return make_app(settings, metrics, partial(open_services, settings, metrics))


def create_app_from_environment() -> FastAPI:
    """Makes the application of a worker process, with settings from the environment."""
    settings = read_settings()
    logs.configure(settings.log_level, settings.log_format)
    return create_app(settings)
