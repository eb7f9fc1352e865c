"""Provides what the routes share: the open services, the generation that a request reads, a time to retry."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from service.generation import Generation
from service.http.services import Services

STORE_RETRY_SECONDS = 2
"""Seconds after which a client may try again while a store does not answer."""


async def services_of(request: Request) -> Services:
    """Returns the services that the lifespan opened."""
    # Both are async: FastAPI would run a plain function in its thread pool.
    return cast(Services, request.app.state.services)


ServicesOf = Annotated[Services, Depends(services_of)]


async def generation_of(services: ServicesOf) -> Generation:
    """Returns the generation that this request reads to its end, even if another is swapped in meanwhile."""
    return services.generation.get()


GenerationOf = Annotated[Generation, Depends(generation_of)]
