"""Puts the parts together: the only place that picks classes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from models.contracts import BackboneManifest
from service.bundle import Bundle, open_bundle
from service.candidates.base import CandidateModel
from service.candidates.registry import open_backbone, open_counting
from service.choices import Choices
from service.errors import ConfigurationError
from service.executor import BoundedExecutor
from service.histories import HistoryReader
from service.lvlm.accounts import Accounts
from service.lvlm.allowance import Allowance, Budget, RateLimit
from service.lvlm.answer_cache import AnswerCache, Lifetimes
from service.lvlm.captions import Captions
from service.lvlm.cassettes import Cassette, CassetteWriter, Player, Recorder
from service.lvlm.elsewhere import Elsewhere
from service.lvlm.gateway import Gateway
from service.lvlm.pictures import Pictures
from service.lvlm.pricing import Prices
from service.lvlm.providers.anthropic_batches import AnthropicBatches
from service.lvlm.providers.anthropic_messages import AnthropicMessages
from service.lvlm.providers.base import Provider, Usage
from service.lvlm.providers.batches import Batches
from service.lvlm.providers.late import LateProvider
from service.lvlm.providers.openai_batches import OpenAIBatches
from service.lvlm.providers.openai_chat import OpenAIChat
from service.lvlm.providers.transport import check_proxies
from service.lvlm.retries import Retries
from service.lvlm.stage import LvlmStage, StageOptions
from service.lvlm.thumbnails import ThumbnailCache
from service.metrics import Metrics
from service.recommender import Recommender
from service.settings import SIMULATORS, Settings
from service.stores.base import Cache, Events, Leases, Meters, StoreError
from service.stores.memory import MemoryCache, MemoryEvents, MemoryMeters

logger = logging.getLogger("service")


@dataclass(frozen=True)
class Stores:
    """Where answers, captions and events are kept, and limits watched.

    Attributes:
        meters: of all workers, as far as they share a store.
        local_meters: of this process, which has its part of every limit.
        leases: None if there is nobody to share work with.
        shared: whether other workers see the same.
    """

    cache: Cache
    events: Events
    meters: Meters
    local_meters: MemoryMeters
    leases: Leases | None
    shared: bool

    async def answer(self) -> bool:
        """Whether the stores are up; always, when they are in memory."""
        try:
            await self.cache.get("health")
        except StoreError:
            return False
        return True


@dataclass(frozen=True)
class Services:
    """What routes use.

    Attributes:
        events: where new events go; None when several workers have no store in common.
    """

    bundle: Bundle
    recommender: Recommender
    histories: HistoryReader
    stores: Stores
    events: Events | None
    metrics: Metrics


@asynccontextmanager
async def open_services(settings: Settings, metrics: Metrics) -> AsyncIterator[Services]:
    """Open everything, warm it up, and close it at the end.

    Raises:
        BundleError: the bundle does not open.
        ConfigurationError: a setting does not fit the bundle.
    """
    async with AsyncExitStack() as stack:
        bundle = open_bundle(settings.bundle)
        stores = await open_stores(settings, stack)
        executor = BoundedExecutor(settings.candidate_threads, settings.candidate_queue)
        stack.callback(executor.close)
        histories = HistoryReader(bundle.catalogue, stores.events)
        choices = Choices(
            backbones=open_models(bundle, settings, metrics),
            backbone=default_backbone(bundle, settings.backbone),
            lvlms=settings.models,
            provider=settings.provider,
            lvlm=settings.default_model,
            alternatives=settings.alternatives,
        )
        recommender = Recommender(
            bundle.catalogue,
            choices,
            histories,
            executor,
            await open_stage(settings, bundle, stores, metrics, stack),
            metrics,
            deadline=settings.deadline_ms / 1000,
        )
        events = stores.events if stores.shared or settings.workers == 1 else None
        yield Services(bundle, recommender, histories, stores, events, metrics)


def open_models(bundle: Bundle, settings: Settings, metrics: Metrics) -> dict[str, CandidateModel]:
    """A warmed-up candidate model for every backbone, then those that need no training."""
    models: dict[str, CandidateModel] = {}
    for name, backbone in bundle.backbones.items():
        model = open_backbone(backbone, settings.onnx_threads)
        for length in {1, max(1, backbone.manifest.length)}:  # the first run of each shape plans its memory
            model.top(None, [0] * length, 1, [])
        models[name] = model
        manifest = backbone.manifest
        metrics.bundle_info.labels(name, manifest.version, manifest.family).set(1)
    for name, model in open_counting(bundle.catalogue).items():
        models.setdefault(name, model)
    return models


def check(settings: Settings, bundle: Bundle) -> None:
    """See whether the settings fit the bundle and the environment, before anything is started.

    Raises:
        ConfigurationError: they do not.
    """
    for name in () if settings.replays else settings.models:
        settings.key(name)
        if name not in SIMULATORS or settings.simulator_url:
            check_proxies(settings.address(name))
    default_backbone(bundle, settings.backbone)
    captioners = bundle.catalogue.captions
    if settings.captioner and settings.captioner not in captioners:
        raise ConfigurationError(
            f"MSR_CAPTIONER is {settings.captioner!r}; this bundle has captions of "
            f"{', '.join(captioners) or 'nobody'}"
        )


def default_backbone(bundle: Bundle, wanted: str) -> str:
    """The backbone that answers unless a request names one: the raw one with the best validation NDCG@5.

    Raises:
        ConfigurationError: the wanted one is not there, or all are enhanced.
    """
    if wanted:
        if wanted not in bundle.backbones:
            raise ConfigurationError(
                f"MSR_BACKBONE is {wanted!r}; this bundle has {', '.join(bundle.backbones)}"
            )
        return wanted
    raw = [name for name, backbone in bundle.backbones.items() if backbone.manifest.text_view == "raw"]
    if not raw:
        raise ConfigurationError(
            "the bundle has only enhanced backbones: export a raw one or set MSR_BACKBONE"
        )
    return max(raw, key=lambda name: _validation(bundle.backbones[name].manifest))


def _validation(manifest: BackboneManifest) -> float:
    found = manifest.metrics.get("validation", {}).get("N@5", 0.0)
    return float(found) if isinstance(found, int | float) else 0.0


async def open_stores(settings: Settings, stack: AsyncExitStack) -> Stores:
    """The stores that the settings name, closed with the stack.

    Raises:
        ConfigurationError: the URL is not one that Redis clients know.
    """
    url = settings.redis_url.get_secret_value()
    local = MemoryMeters(share=1 / settings.workers)
    if not url:
        cache = MemoryCache(settings.memory_cache_bytes)
        return Stores(cache, MemoryEvents(), local, local, leases=None, shared=False)
    from service.stores.redis_store import (
        RedisCache,
        RedisConnection,
        RedisEvents,
        RedisLeases,
        RedisMeters,
    )

    try:
        connection = RedisConnection(url, settings.redis_timeout_ms / 1000)
    except ValueError:  # its text may quote a part of the password
        raise ConfigurationError("MSR_REDIS_URL: Redis' client cannot use it") from None
    stack.push_async_callback(connection.close)
    stores = Stores(
        RedisCache(connection),
        RedisEvents(connection, settings.events_ttl_s),
        RedisMeters(connection),
        local,
        leases=RedisLeases(connection),
        shared=True,
    )
    if not await stores.answer():
        logger.warning("Redis does not answer: the service starts degraded, without cache and events")
    return stores


async def open_stage(
    settings: Settings, bundle: Bundle, stores: Stores, metrics: Metrics, stack: AsyncExitStack
) -> LvlmStage:
    """The LVLM stage that the settings name, closed with the stack."""
    catalogue = bundle.catalogue
    prices = Prices.read()
    gateway = open_gateway(settings, open_providers(settings, prices), prices, metrics, stores)
    pictures = Pictures(catalogue, ThumbnailCache(settings.thumbnail_cache_bytes))
    captions = Captions(
        catalogue,
        pictures,
        gateway,
        stores.cache,
        metrics,
        ttl=settings.caption_ttl_s,
        max_output_tokens=settings.max_output_tokens,
        captioner=settings.captioner,
        fill=settings.caption_fill,
        leases=stores.leases,
    )
    stage = LvlmStage(
        catalogue,
        gateway=gateway,
        pictures=pictures,
        captions=captions,
        answers=AnswerCache(
            stores.cache,
            Lifetimes(settings.answer_ttl_s, settings.answer_stale_s, settings.answer_negative_s),
            metrics,
        ),
        elsewhere=Elsewhere(stores.leases),
        metrics=metrics,
        options=StageOptions(
            settings.lvlm_stream, settings.max_output_tokens, call_seconds=settings.lvlm_call_ms / 1000
        ),
    )
    stack.push_async_callback(stage.close)
    return stage


def open_gateway(
    settings: Settings,
    providers: dict[str, Provider],
    prices: Prices,
    metrics: Metrics,
    stores: Stores,
    concurrency: int | None = None,
) -> Gateway:
    """The gateway to these providers, with all limits that the settings name."""
    accounts = Accounts(prices, metrics, free=SIMULATORS, bill_simulated=settings.simulator_bills)
    limits = {
        name: RateLimit(limit.requests_per_minute, limit.tokens_per_minute)
        for name, limit in settings.lvlm_limits.items()
    }
    return Gateway(
        providers,
        accounts,
        open_allowance(settings, stores, limits),
        metrics,
        concurrency=concurrency or settings.lvlm_concurrency,
        adaptive=settings.lvlm_adaptive,
        retries=Retries(settings.lvlm_attempts),
        hedge=settings.lvlm_hedge,
    )


def open_allowance(settings: Settings, stores: Stores, limits: Mapping[str, RateLimit]) -> Allowance:
    """The budgets that the settings name, with these limits per minute."""
    return Allowance(
        stores.meters,
        stores.local_meters,
        limits,
        budget_of(settings),
        unpriced=settings.unpriced_calls == "allow",
        free=SIMULATORS,
    )


def budget_of(settings: Settings) -> Budget:
    """The budget that the settings name."""
    return Budget(settings.budget_usd_per_hour, settings.budget_usd_per_day)


def unpriced(settings: Settings) -> list[str]:
    """Configured models, as ``provider/model``, that the budget cannot count; none without a budget."""
    if not budget_of(settings).limited:
        return []
    prices = Prices.read()
    return [
        f"{provider}/{model}"
        for provider, models in settings.models.items()
        for model in models
        if provider not in SIMULATORS and prices.cost(model, Usage()) is None
    ]


def open_providers(settings: Settings, prices: Prices, only: str | None = None) -> dict[str, Provider]:
    """Every configured provider by name, or one of them.

    The SDKs they use are imported here and nowhere before; only the simulator's other wire format, which
    hardly anybody asks for, waits until it is asked.
    """
    providers: dict[str, Provider] = {}
    names = [name for name in settings.models if only in (None, name)]
    cassette = settings.cassette
    if cassette and settings.replays:
        played = Cassette.read(cassette)
        return {name: Player(name, played) for name in names}
    for name in names:
        opening = partial(open_provider, name, settings, prices)
        late = name in SIMULATORS and name not in (settings.provider, only)
        providers[name] = LateProvider(name, opening) if late else opening()
        if cassette:
            providers[name] = Recorder(providers[name], CassetteWriter(cassette))
    return providers


def open_batches(name: str, settings: Settings, provider: Provider) -> Batches:
    """The batch API of an open provider.

    Raises:
        ConfigurationError: it has none, or calls are played from a cassette.
    """
    if settings.cassette:
        raise ConfigurationError("batches are not on cassettes: leave --batch or MSR_CASSETTE out")
    if isinstance(provider, AnthropicMessages):
        return AnthropicBatches(provider)
    if isinstance(provider, OpenAIChat) and name not in settings.compatible:
        return OpenAIBatches(provider)
    raise ConfigurationError(f"no batch API is known for {name}: leave --batch out")


def open_provider(name: str, settings: Settings, prices: Prices) -> Provider:
    """One configured provider.

    Raises:
        ConfigurationError: its key or a proxy on the way to it cannot be used.
    """
    address, key, dialect = settings.address(name), settings.key(name), settings.dialect(name)
    check_proxies(address)
    simulated = name in SIMULATORS
    if name in ("anthropic", "simulator-anthropic"):
        return AnthropicMessages(
            name,
            api_key=key,
            base_url=address,
            dialect=dialect,
            tell_strategy=simulated,
            account=name == "anthropic",
        )
    return OpenAIChat(
        name,
        api_key=key,
        prices=prices,
        base_url=address,
        dialect=dialect,
        tell_strategy=simulated,
        account=name == "openai",
    )
