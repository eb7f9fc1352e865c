"""What routes declare as parameters: the open services, and the generation that the request reads."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from service.generation import Generation
from service.http.services import Services


async def services_of(request: Request) -> Services:
    """Returns what the lifespan opened; async, since FastAPI runs plain functions in its thread pool."""
    return cast(Services, request.app.state.services)


ServicesOf = Annotated[Services, Depends(services_of)]


async def generation_of(services: ServicesOf) -> Generation:
    """Returns what this request reads to its end, whatever is swapped in meanwhile."""
    return services.generation.get()


GenerationOf = Annotated[Generation, Depends(generation_of)]
