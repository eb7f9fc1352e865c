"""Builds requests to the LVLM stage, and stages whose only provider plays a test's scripts or replies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from controlled_provider import ControlledProvider, Step, eventually
from lvlm_parts import (
    SCRIPTS,
    Opened,
    connect,
    open_stage,
)
from scripted_server import Reply, ScriptedServer, scripted_server

from service.catalogue.bundle import Catalogue
from service.lvlm.contracts import StageRequest, StageResult
from service.strategies import STRATEGIES

GOOD = ("C", "A", "B", "D", "E")
GOOD_ROWS = (2, 0, 1, 3, 4)
"""Item rows that these labels mean in the pools of ``ask`` and ``ask_titles``."""

HISTORY = tuple(range(20, 32))
"""Twelve item rows, two more than a prompt shows; 23 and 29 have no picture, 24 to 31 no caption."""

POOL = tuple(range(30))
WIRES = ["openai", "anthropic"]


def ask_titles(strategy: str = "s3", **changes: Any) -> StageRequest:
    """Returns a request that shows only titles, so that no time is spent on pictures."""
    request = StageRequest(
        STRATEGIES[strategy],
        history=(20, 21, 22),
        pool=tuple(range(10)),
        k=5,
        provider="fake",
        model="gpt-4o",
        modality="title",
    )
    return replace(request, **changes)


@asynccontextmanager
async def asking(
    catalogue: Catalogue, *scripts: Sequence[Step], **options: Any
) -> AsyncIterator[tuple[Opened, ControlledProvider]]:
    """Opens a stage whose only provider plays these scripts."""
    provider = ControlledProvider(*scripts)
    async with open_stage(catalogue, [provider], **options) as opened:
        yield opened, provider


def calls_of(opened: Opened) -> int:
    """Returns the number of running shared calls."""
    return len(opened.stage._singleflight)


async def ended(opened: Opened) -> None:
    """Waits until the last shared call has ended, and its answer is cached."""
    await eventually(lambda: calls_of(opened) == 0)


def begin(opened: Opened, request: StageRequest) -> asyncio.Task[StageResult]:
    """Starts a request in a task."""
    return asyncio.create_task(opened.stage.rerank(request))


def ask(strategy: str = "s3", provider: str = "openai", **changes: Any) -> StageRequest:
    """Returns a request with pictures or captions, for a provider that speaks one of the wire formats."""
    request = StageRequest(STRATEGIES[strategy], HISTORY, POOL, k=5, provider=provider, model="gpt-4o")
    return replace(request, **changes)


def answer(wire: str, *labels: str, **more: str) -> Reply:
    """Returns a reply that streams a ranking, with more members of its JSON object."""
    text = json.dumps({"ranking": list(labels), **more}).encode()
    return Reply(SCRIPTS[wire].stream(text))


@asynccontextmanager
async def playing(
    catalogue: Catalogue, *replies: Reply, wire: str = "openai", **options: Any
) -> AsyncIterator[tuple[Opened, ScriptedServer]]:
    """Opens a stage whose only provider is a server that plays these replies."""
    async with (
        scripted_server(*replies) as server,
        open_stage(catalogue, [connect(wire, server.url)], **options) as opened,
    ):
        yield opened, server


async def rerank(catalogue: Catalogue, reply: Reply, request: StageRequest) -> tuple[StageResult, Opened]:
    """Returns the result of a request whose provider replies this, and the stage."""
    async with playing(catalogue, reply, wire=request.provider) as (opened, _):
        return await opened.stage.rerank(request), opened


async def body_of(catalogue: Catalogue, request: StageRequest) -> dict[str, Any]:
    """Returns the body that a request sends to its provider."""
    async with playing(catalogue, answer("openai", *GOOD)) as (opened, server):
        await opened.stage.rerank(request)
        return server.requests[0].body
