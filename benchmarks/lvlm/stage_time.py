"""Command ``stage``: times the LVLM stage without its provider call, and that call beside the bare SDK's.

One request at a time is made, with cached thumbnails, in this process on the service's event loop. The
stage's
own time is all but the provider call: history, prompt, picture, caches, parsing, ledger. Every answer is
looked up in the answer cache, missed, and written there. The bare call sends the same request to the same
simulator through the vendor's SDK and reads its events to the end.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import uvloop
from tqdm import tqdm

from benchmarks.errors import BenchmarkError
from benchmarks.lab.cases import Case, Cohort
from benchmarks.lab.options import add_bundle_argument, bundle_of, positive
from benchmarks.lab.pages import add_markdown_argument, publish
from benchmarks.lab.rounds import Limit, LimitChecks, Ratio, any_broken, verdicts
from benchmarks.lab.simulator_control import running_simulator
from benchmarks.lab.stats import median
from models import machine
from models.printed_table import Table
from service.catalogue.bundle import Bundle
from service.lvlm.answer_cache import CACHE
from service.lvlm.contracts import Outcome, StageRequest
from service.lvlm.cost.prices import Prices
from service.lvlm.providers.base import Call
from service.lvlm.stage import LvlmStage
from service.metrics import Metrics
from service.settings import Settings
from service.stores.memory import MemoryCache
from service.stores.worker_stores import Stores
from service.strategies import STRATEGIES
from service.wiring.lvlm import GatewayOptions, LvlmOptions, open_gateway, open_lvlm
from service.wiring.providers import open_providers

PROVIDERS = ("simulator", "simulator-anthropic")
"""The simulator over OpenAI's wire format and over Anthropic's."""
MODELS = {"simulator": "gpt-4o", "simulator-anthropic": "claude-haiku-4-5"}
OWN = Limit("the stage's own milliseconds, median", most=5)
CALL = Limit("provider call by the bare SDK's", most=1.2)
DEADLINE = 30.0
"""Seconds of a request's deadline, which is never reached: the simulator answers at once."""


@dataclass(frozen=True)
class StageRound:
    """Medians of one round, in seconds.

    Attributes:
        own: time of the stage without the provider call.
        call: time of the provider call.
        bare: time of the SDK's call alone.
    """

    own: float
    call: float
    bare: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_bundle_argument(parser)
    parser.add_argument("--users", type=positive, default=40, help="per round and strategy (default 40)")
    parser.add_argument("--rounds", type=positive, default=5, help="default 5")
    parser.add_argument("--strategies", default="s3,s5", help="comma-separated (default s3,s5)")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code, 1 when a limit was broken.

    Raises:
        BenchmarkError: the simulator does not start, an answer is not the LVLM's, or the answer cache was not
            read, missed and written for it.
    """
    bundle = bundle_of(arguments)
    names = [name for name in arguments.strategies.split(",") if name in STRATEGIES]
    cases = list(Cohort(bundle.catalogue, arguments.users, seed=1))
    with (
        running_simulator("--profile", "instant") as simulator,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        found = runner.run(_measure(simulator.url, bundle, cases, names, arguments.rounds))
    page = _page(found, arguments, bundle)
    publish(page, arguments.markdown)
    return int(any_broken(limit_checks(found)))


Found = dict[tuple[str, str], list[StageRound]]


async def _measure(
    url: str, bundle: Bundle, cases: Sequence[Case], strategies: Sequence[str], rounds: int
) -> Found:
    found: Found = {(name, provider): [] for name in strategies for provider in PROVIDERS}
    # Both models are named, so that each wire format bills one of known price.
    settings = Settings(simulator_url=url, simulator_models=tuple(MODELS.values()))
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        cache = EmptiedCache(settings.memory_cache_bytes)
        stores, prices = Stores.in_memory(cache), Prices.read()
        providers = open_providers(settings, prices.image_detail)
        gateway = open_gateway(GatewayOptions.of(settings), providers, stores, metrics, prices=prices)
        stage = open_lvlm(LvlmOptions.of(settings), gateway, stores, metrics).stage
        stack.push_async_callback(stage.close)
        bare = {name: BareSdk(name, settings) for name in PROVIDERS}
        for sdk in bare.values():
            stack.push_async_callback(sdk.close)
        with tqdm(total=len(found) * (rounds + 1), unit="round", disable=None) as bar:
            for number in range(rounds + 1):
                for (name, provider), measured in found.items():
                    # Frozen objects are not visited by collections while calls are timed.
                    gc.collect()
                    gc.freeze()
                    cache.empty()  # all rounds make the same requests
                    taken = await one_round(stage, metrics, bare[provider], bundle, cases, name)
                    if number:  # the first one warms up thumbnails, connections and the simulator
                        measured.append(taken)
                    bar.update()
    return found


async def one_round(
    stage: LvlmStage, metrics: Metrics, bare: BareSdk, bundle: Bundle, cases: Sequence[Case], name: str
) -> StageRound:
    """Asks every case once through the stage and once through the bare SDK, in turns.

    Raises:
        BenchmarkError: an answer is not the LVLM's, or was not missed in the answer cache and written there.
    """
    own, calls, alone = [], [], []
    rows = bundle.catalogue.rows
    for number, case in enumerate(cases):
        request = StageRequest(
            STRATEGIES[name],
            history=tuple(rows[item] for item in case.history),
            pool=tuple(rows[item] for item in case.candidates),
            k=10,
            provider=bare.name,
            model=MODELS[bare.name],
            cache="use",
            deadline=DEADLINE,
        )
        # The bare call comes first every other time, so that neither call always has a warm simulator.
        if number % 2:
            alone.append(await bare.call(await stage.prompt(request, bundle.catalogue)))
        before, stored, began = _call_seconds(metrics), _stored(metrics), time.perf_counter()
        result = await stage.rerank(request, bundle.catalogue)
        took = time.perf_counter() - began
        if result.outcome not in (Outcome.OK, Outcome.REPAIRED):
            raise BenchmarkError(f"the simulator's answer was not used: {result.outcome}")
        if result.cache != "miss" or _stored(metrics) != stored + 1:
            raise BenchmarkError(f"an answer was not missed in the cache and written there: {result.cache}")
        # The service's own histogram of this one call: one request is under way at a time.
        call = _call_seconds(metrics) - before
        own.append(took - call)
        calls.append(call)
        if not number % 2:
            alone.append(await bare.call(await stage.prompt(request, bundle.catalogue)))
    return StageRound(median(own), median(calls), median(alone))


class EmptiedCache:
    """A cache in memory that can be emptied, so that every look-up of a round is a miss."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.empty()

    def empty(self) -> None:
        """Drops all entries."""
        self._cache = MemoryCache(self._max_bytes)

    async def get(self, key: str) -> bytes | None:
        """See Cache."""
        return await self._cache.get(key)

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """See Cache."""
        return await self._cache.get_many(keys)

    async def set(self, key: str, value: bytes, ttl: float, owner: str | None = None) -> None:
        """See Cache."""
        await self._cache.set(key, value, ttl, owner)

    async def forget(self, owner: str) -> int:
        """See Cache."""
        return await self._cache.forget(owner)


class BareSdk:
    """Calls the vendor's SDK directly, with the request that the service's provider builds."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self._provider: Any = settings.providers[name].open(Prices.read().image_detail)

    async def call(self, call: Call) -> float:
        """Makes one streamed call and reads it to the end; returns its seconds."""
        # The provider's SDK client and request builder; none of its retries, parsing or limits.
        client = self._provider.client
        request = self._provider.request(call)
        began = time.perf_counter()
        if self.name == "simulator":
            # OpenAI sends usage only when asked; Anthropic always does.
            options = {"include_usage": True}
            events = await client.chat.completions.create(**request, stream=True, stream_options=options)
        else:
            events = await client.messages.create(**request, stream=True)
        async with events:
            async for _ in events:
                pass
        return time.perf_counter() - began

    async def close(self) -> None:
        """Closes the connections."""
        await self._provider.close()


def _call_seconds(metrics: Metrics) -> float:
    return sum(
        sample.value
        for family in metrics.registry.collect()
        if family.name == "msr_lvlm_call_duration_seconds"
        for sample in family.samples
        if sample.name.endswith("_sum")
    )


def _stored(metrics: Metrics) -> float:
    """Returns the number of answers written to the cache so far."""
    labels = {"cache": CACHE, "result": "stored"}
    return metrics.registry.get_sample_value("msr_cache_events_total", labels) or 0.0


def limit_checks(found: Found) -> LimitChecks:
    """Pairs each limit with the worst of the strategies and wire formats."""
    own, calls = ([way(rounds) for rounds in found.values()] for way in (_own, _by_bare))
    return (
        (OWN, max(own, key=lambda each: each.median)),
        (CALL, max(calls, key=lambda each: each.median)),
    )


def _own(rounds: Sequence[StageRound]) -> Ratio:
    """Returns the median and extremes of the stage's own milliseconds."""
    milliseconds = [1000 * each.own for each in rounds]
    return Ratio(median(milliseconds), min(milliseconds), max(milliseconds))


def _by_bare(rounds: Sequence[StageRound]) -> Ratio:
    """Returns the ratio of the provider call's time to the bare SDK's."""
    return Ratio.of([each.call for each in rounds], [each.bare for each in rounds])


def _page(found: Found, arguments: argparse.Namespace, bundle: Bundle) -> str:
    rows = []
    for (name, provider), rounds in found.items():
        own, ratio = _own(rounds), _by_bare(rounds)
        rows.append(
            (
                f"{name}, {provider}",
                f"{own.median:.3f} ({own.spread})",
                f"{1000 * median([each.call for each in rounds]):.2f}",
                f"{1000 * median([each.bare for each in rounds]):.2f}",
                f"{ratio} ({ratio.spread})",
            )
        )
    columns = ("strategy, wire", "own ms", "provider call ms", "bare SDK call ms", "call / bare")
    return "\n".join(
        (
            f"## The LVLM stage's own time: {bundle.catalogue.manifest.dataset}\n",
            machine.describe(machine.facts())
            + f"- {arguments.users} users, {arguments.rounds} rounds, one request at a time, streaming, "
            + "simulator without waiting\n"
            + f"- command: `{arguments.command_line}`\n",
            Table(columns, tuple(rows)).markdown(),
            "Medians per round; their median over rounds, extremes in brackets. No answer was cached before: "
            "each is looked up, missed and written. Calls of both kinds take turns. Most of a call is the "
            "simulator, which looks at the picture.\n",
            verdicts(limit_checks(found)) + "\n",
        )
    )
