"""Clients of applications that differ in their settings alone, each made once for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from asgi_client import AsgiClient, Clients


@pytest.fixture(scope="session")
def clients() -> Iterator[Clients]:
    made: dict[str, AsgiClient] = {}

    def client(**settings: Any) -> AsgiClient:
        key = repr(settings)
        if key not in made:
            made[key] = AsgiClient(**settings)
        return made[key]

    yield client
    for each in made.values():
        each.close()
