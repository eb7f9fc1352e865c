"""Provides FastAPI dependencies: the open services, and the generation that the request reads."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from service.generation import Generation
from service.http.services import Services


async def services_of(request: Request) -> Services:
    """Returns the services that the lifespan opened."""
    # Both are async: FastAPI would run a plain function in its thread pool.
    return cast(Services, request.app.state.services)


ServicesOf = Annotated[Services, Depends(services_of)]


async def generation_of(services: ServicesOf) -> Generation:
    """Returns the generation that this request reads to its end, even if another is swapped in meanwhile."""
    return services.generation.get()


GenerationOf = Annotated[Generation, Depends(generation_of)]
