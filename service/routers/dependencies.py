"""Short names for what routes need."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from service.wiring import Services


async def services_of(request: Request) -> Services:
    """What the lifespan opened; async, since FastAPI sends plain functions through its thread pool."""
    return cast(Services, request.app.state.services)


ServicesOf = Annotated[Services, Depends(services_of)]
