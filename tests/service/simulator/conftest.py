"""Simulators whose batches end soon, and SDKs that speak to them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from batch_vendors import (
    AnthropicVendor,
    OpenAIVendor,
    connect,
)
from served import simulator_served


@pytest.fixture
async def batch_url() -> AsyncIterator[str]:
    async with simulator_served(batch_seconds=0.1) as url:
        yield url


@pytest.fixture
async def slow_batch_url() -> AsyncIterator[str]:
    """A simulator whose batches last long enough to be looked at."""
    async with simulator_served(batch_seconds=0.6) as url:
        yield url


@pytest.fixture
async def admin(batch_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks to the simulator without an SDK."""
    async with httpx.AsyncClient(base_url=batch_url, trust_env=False, verify=False) as http:
        yield http


@pytest.fixture(params=["openai", "anthropic"])
async def vendor(
    request: pytest.FixtureRequest, batch_url: str
) -> AsyncIterator[OpenAIVendor | AnthropicVendor]:
    vendor = connect(request.param, batch_url)
    async with vendor.sdk:
        yield vendor


@pytest.fixture(params=["openai", "anthropic"])
async def slow_vendor(
    request: pytest.FixtureRequest, slow_batch_url: str
) -> AsyncIterator[OpenAIVendor | AnthropicVendor]:
    vendor = connect(request.param, slow_batch_url)
    async with vendor.sdk:
        yield vendor


@pytest.fixture
async def of_openai(batch_url: str) -> AsyncIterator[OpenAIVendor]:
    vendor = connect("openai", batch_url)
    assert isinstance(vendor, OpenAIVendor)
    async with vendor.sdk:
        yield vendor


@pytest.fixture
async def of_anthropic(batch_url: str) -> AsyncIterator[AnthropicVendor]:
    vendor = connect("anthropic", batch_url)
    assert isinstance(vendor, AnthropicVendor)
    async with vendor.sdk:
        yield vendor
