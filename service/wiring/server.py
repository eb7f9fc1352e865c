"""Configures the HTTP server that serves the application."""

from __future__ import annotations

from typing import Any

import uvicorn

from service.metrics import Metrics
from service.settings import Settings


def server_config(settings: Settings, app: Any, metrics: Metrics) -> uvicorn.Config:
    """Returns the configuration of the server for an application.

    Args:
        settings: settings of the deployment.
        app: ASGI application.
        metrics: metrics of this worker.
    """
    return uvicorn.Config(
        app,
        ws="none",
        lifespan="off",  # the worker opens and closes the application itself
        workers=1,
        log_config=None,  # `logs.configure` has set up uvicorn's loggers too
        access_log=False,
        server_header=False,
    )
