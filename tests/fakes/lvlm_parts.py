"""Builds an LVLM stage around a test's providers, and reads the requests that it sent."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from scripted_server import AnthropicScript, OpenAIScript

from service.catalogue.bundle import Catalogue
from service.lvlm.answer.streamed_prefix import OnPrefix
from service.lvlm.answer_cache import Lifetimes
from service.lvlm.calls.gateway import Gateway
from service.lvlm.captions import Captions, FoundCaptions
from service.lvlm.contracts import StageOptions, StageRequest, StageResult
from service.lvlm.cost.budgets_and_quotas import Budget, RateLimit
from service.lvlm.cost.prices import Prices
from service.lvlm.providers.anthropic.messages import AnthropicMessages
from service.lvlm.providers.base import Call, Provider
from service.lvlm.providers.openai.chat import OpenAIChat
from service.lvlm.stage import LvlmStage
from service.metrics import Metrics
from service.stores.base import Cache, Leases, StoreError
from service.stores.memory import MemoryCache, MemoryMeters
from service.stores.worker_stores import Stores
from service.wiring import lvlm as wiring

SCRIPTS: dict[str, OpenAIScript | AnthropicScript] = {
    "openai": OpenAIScript(),
    "anthropic": AnthropicScript(),
}


def connect(wire: str, url: str) -> Provider:
    """Returns a provider of a wire format at an address, named after the format."""
    if wire == "openai":
        return OpenAIChat(
            wire,
            api_key="k",
            image_detail=Prices.read().image_detail,
            base_url=f"{url}/v1",
            send_context=True,
        )
    return AnthropicMessages(wire, api_key="k", base_url=url, send_context=True)


@dataclass(frozen=True)
class StageOfCatalogue:
    """A stage whose requests are all about one catalogue."""

    stage: LvlmStage
    catalogue: Catalogue

    async def rerank(self, request: StageRequest, on_prefix: OnPrefix | None = None) -> StageResult:
        return await self.stage.rerank(request, self.catalogue, on_prefix)

    async def prompt(self, request: StageRequest) -> Call:
        return await self.stage.prompt(request, self.catalogue)

    @property
    def _singleflight(self) -> Any:
        return self.stage._singleflight


@dataclass(frozen=True)
class CaptionsOfCatalogue:
    """Captions of one catalogue's items."""

    captions: Captions
    catalogue: Catalogue

    async def read(self, rows: Sequence[int], provider: str, model: str) -> FoundCaptions:
        return await self.captions.read(self.catalogue, rows, provider, model)

    async def close(self) -> None:
        await self.captions.close()


@dataclass(frozen=True)
class Opened:
    """A stage with its parts that tests look at."""

    stage: StageOfCatalogue
    captions: CaptionsOfCatalogue
    gateway: Gateway
    metrics: Metrics

    def count(self, name: str, **labels: str) -> float:
        """Returns the value of a metric's sample; 0 before its first event."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def open_gateway(
    providers: Sequence[Provider],
    metrics: Metrics | None = None,
    *,
    concurrency: int = 8,
    attempts: int = 1,
    limits: Mapping[str, RateLimit] | None = None,
    budget: Budget | None = None,
    bill_simulated: bool = False,
    meters: MemoryMeters | None = None,
    hedge: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
) -> Gateway:
    """Opens a gateway with meters of its own."""
    return wiring.open_gateway(
        wiring.GatewayOptions(
            concurrency=concurrency,
            attempts=attempts,
            hedge=hedge,
            limits=limits or {},
            budget=budget or Budget(),
            bill_simulated=bill_simulated,
        ),
        {provider.name: provider for provider in providers},
        Stores.in_memory(MemoryCache(0), meters),
        metrics or Metrics(),
        clock=clock,
    )


@asynccontextmanager
async def open_stage(
    catalogue: Catalogue,
    providers: Sequence[Provider],
    *,
    cache: Cache | None = None,
    concurrency: int = 8,
    stream: bool = True,
    fill: bool = False,
    captioner: str = "",
    attempts: int = 1,
    lifetimes: Lifetimes | None = None,
    limits: Mapping[str, RateLimit] | None = None,
    budget: Budget | None = None,
    leases: Leases | None = None,
    call_seconds: float = 10,
    closing_seconds: float = 0,
    bill_simulated: bool = False,
) -> AsyncIterator[Opened]:
    """Opens a stage that makes one attempt per call, and makes missing captions only if ``fill`` is True."""
    metrics = Metrics()
    cache = MemoryCache(10**7) if cache is None else cache
    gateway = open_gateway(
        providers,
        metrics,
        concurrency=concurrency,
        attempts=attempts,
        limits=limits,
        budget=budget,
        bill_simulated=bill_simulated,
    )
    lvlm = wiring.open_lvlm(
        wiring.LvlmOptions(
            StageOptions(
                stream, max_output_tokens=500, call_seconds=call_seconds, closing_seconds=closing_seconds
            ),
            lifetimes or Lifetimes(60, 60, 60),
            caption_seconds=60,
            captioner=captioner,
            fill_captions=fill,
            thumbnail_bytes=10**7,
        ),
        gateway,
        Stores.in_memory(cache, leases=leases),
        metrics,
    )
    try:
        yield Opened(
            StageOfCatalogue(lvlm.stage, catalogue),
            CaptionsOfCatalogue(lvlm.captions, catalogue),
            gateway,
            metrics,
        )
    finally:
        await lvlm.stage.close()


class MemoryLeases:
    """Leases that several stages of one process share, as workers share those of Redis.

    Attributes:
        held: holder and end, in monotonic seconds, of each lease by key.
    """

    def __init__(self) -> None:
        self.held: dict[str, tuple[str, float]] = {}

    async def take(self, key: str, holder: str, ttl: float) -> bool:
        now = time.monotonic()
        found, until = self.held.get(key, (holder, now))
        if found != holder and now < until:
            return False
        self.held[key] = holder, now + ttl
        return True

    async def release(self, key: str, holder: str) -> None:
        if self.held.get(key, ("", 0.0))[0] == holder:
            del self.held[key]


class BrokenCache:
    """A cache whose every operation fails, as that of a store that is down."""

    async def get(self, key: str) -> bytes | None:
        raise StoreError("down")

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        raise StoreError("down")

    async def set(self, key: str, value: bytes, ttl: float, owner: str | None = None) -> None:
        raise StoreError("down")

    async def forget(self, owner: str) -> int:
        raise StoreError("down")


def parts_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the parts of a request's user message, in either wire format."""
    parts: list[dict[str, Any]] = body["messages"][-1]["content"]
    return parts


def data_of(body: dict[str, Any]) -> dict[str, Any]:
    """Returns the decoded data block of a request."""
    found = re.fullmatch(r"<data>\n(.*)\n</data>", parts_of(body)[-1]["text"])
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def pictures_of(body: dict[str, Any]) -> int:
    """Returns the number of pictures in a request."""
    return sum(part["type"] in ("image", "image_url") for part in parts_of(body))
