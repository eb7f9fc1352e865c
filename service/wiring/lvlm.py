"""Builds the LVLM stage: the gateway to the providers, and around it pictures, captions and the answer cache.

The options of each part are made from the settings, or by a benchmark or test that builds the same parts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from service.lvlm.answer_cache import AnswerCache, Lifetimes
from service.lvlm.calls.cross_worker_lease import WorkLease
from service.lvlm.calls.gateway import Gateway
from service.lvlm.calls.retries import Retries
from service.lvlm.captions import Captions
from service.lvlm.contracts import StageOptions
from service.lvlm.cost.budgets_and_quotas import Budget, Quota, RateLimit
from service.lvlm.cost.ledger import Ledger
from service.lvlm.cost.prices import Prices
from service.lvlm.prompt.item_pictures import Pictures
from service.lvlm.prompt.thumbnails import ThumbnailCache
from service.lvlm.providers.base import Provider
from service.lvlm.providers.registry import SIMULATORS
from service.lvlm.stage import LvlmStage
from service.metrics import Metrics
from service.settings import Settings
from service.stores.worker_stores import Stores


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """Options of the gateway.

    Attributes:
        concurrency: calls under way at one model, at least 1; further calls wait.
        adaptive: whether the concurrency limit shrinks when a provider refuses calls because of load.
        attempts: attempts of one call at most, at least 1.
        hedge: share of the calls that may have a second attempt beside a slow first one, from 0 to 1.
        limits: limits per minute by ``provider`` or ``provider/model``.
        budget: US dollars that may be spent per hour and per day.
        unpriced: whether a model without a known price is called although there is a budget.
        simulators: names of providers whose calls cost nothing.
        bill_simulated: whether simulated answers are billed at real prices, to rehearse budgets.
    """

    concurrency: int = 256
    adaptive: bool = True
    attempts: int = 3
    hedge: float = 0.0
    limits: Mapping[str, RateLimit] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    unpriced: bool = False
    simulators: Collection[str] = ()
    bill_simulated: bool = False

    @classmethod
    def of(cls, settings: Settings) -> GatewayOptions:
        """Returns the options that the settings name."""
        return cls(
            concurrency=settings.lvlm_concurrency,
            adaptive=settings.lvlm_adaptive,
            attempts=settings.lvlm_attempts,
            hedge=settings.lvlm_hedge,
            limits={
                name: RateLimit(limit.requests_per_minute, limit.tokens_per_minute)
                for name, limit in settings.lvlm_limits.items()
            },
            budget=budget_of(settings),
            unpriced=settings.unpriced_calls == "allow",
            # Calls to a simulator are free and in no budget, unless simulator_bills asks for a rehearsal.
            simulators=SIMULATORS,
            bill_simulated=settings.simulator_bills,
        )


@dataclass(frozen=True, slots=True)
class LvlmOptions:
    """Options of the stage and the parts around it.

    Attributes:
        stage: options of the stage itself.
        lifetimes: lifetimes of cached answers.
        caption_seconds: seconds for which a caption stays in the cache, more than 0.
        captioner: captioner of the bundle to use; empty for that of the model that is asked.
        fill_captions: whether missing captions are asked for in the background.
        thumbnail_bytes: bytes that scaled-down pictures may take in memory, at least 0.
    """

    stage: StageOptions = field(default_factory=StageOptions)
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    caption_seconds: float = 2_592_000
    captioner: str = ""
    fill_captions: bool = True
    thumbnail_bytes: int = 67_108_864

    @classmethod
    def of(cls, settings: Settings) -> LvlmOptions:
        """Returns the options that the settings name."""
        return cls(
            stage=StageOptions(
                settings.lvlm_stream, settings.max_output_tokens, call_seconds=settings.lvlm_call_ms / 1000
            ),
            lifetimes=Lifetimes(settings.answer_ttl_s, settings.answer_stale_s, settings.answer_negative_s),
            caption_seconds=settings.caption_ttl_s,
            captioner=settings.captioner,
            fill_captions=settings.caption_fill,
            thumbnail_bytes=settings.thumbnail_cache_bytes,
        )


@dataclass(frozen=True)
class Lvlm:
    """The open stage, whose ``close`` closes the other parts, and the parts that are also used alone."""

    stage: LvlmStage
    pictures: Pictures
    captions: Captions


def open_lvlm(options: LvlmOptions, gateway: Gateway, stores: Stores, metrics: Metrics) -> Lvlm:
    """Builds the stage around a gateway; closing the stage closes the gateway too."""
    # One cache of thumbnails for prompts and captions alike.
    pictures = Pictures(ThumbnailCache(options.thumbnail_bytes))
    captions = Captions(
        pictures,
        gateway,
        stores.cache,
        metrics,
        ttl=options.caption_seconds,
        max_output_tokens=options.stage.max_output_tokens,
        captioner=options.captioner,
        fill=options.fill_captions,
        leases=stores.leases,
    )
    stage = LvlmStage(
        gateway=gateway,
        pictures=pictures,
        captions=captions,
        answers=AnswerCache(stores.cache, options.lifetimes, metrics),
        lease=WorkLease(stores.leases),
        metrics=metrics,
        options=options.stage,
    )
    return Lvlm(stage, pictures, captions)


def open_gateway(
    options: GatewayOptions,
    providers: Mapping[str, Provider],
    stores: Stores,
    metrics: Metrics,
    *,
    prices: Prices | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Gateway:
    """Builds the gateway to these providers.

    Args:
        options: limits and retries of the gateway.
        providers: open providers by name.
        stores: stores with the meters of the limits.
        metrics: metrics that count the calls.
        prices: prices of the models; None for the built-in price table.
        clock: monotonic clock in seconds, for the log of outages.
    """
    prices = prices or Prices.read()
    ledger = Ledger(prices, metrics, simulators=options.simulators, bill_simulated=options.bill_simulated)
    return Gateway(
        providers,
        ledger,
        open_quota(options, stores),
        metrics,
        concurrency=options.concurrency,
        adaptive=options.adaptive,
        retries=Retries(options.attempts),
        hedge=options.hedge,
        clock=clock,
    )


def open_quota(options: GatewayOptions, stores: Stores) -> Quota:
    """Builds the quota, which grants calls within the limits per minute and the budget."""
    return Quota(
        stores.meters,
        stores.local_meters,  # while the shared ones cannot be reached
        options.limits,
        options.budget,
        unpriced=options.unpriced,
        free_providers=options.simulators,
    )


def budget_of(settings: Settings) -> Budget:
    """Returns the budget that the settings name."""
    return Budget(settings.budget_usd_per_hour, settings.budget_usd_per_day)
