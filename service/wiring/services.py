"""Opens everything that the service's routes use, and closes it at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from service.catalogue.histories import HistoryReader
from service.executor import BoundedExecutor
from service.generation import CurrentGeneration
from service.http.process_state import ProcessState
from service.http.services import Services
from service.lvlm.cost.prices import Prices
from service.lvlm_selection import LvlmChoices
from service.metrics import Metrics
from service.recommender import Recommender
from service.settings import Settings
from service.wiring.candidates import backbones_of, open_generation
from service.wiring.lvlm import GatewayOptions, LvlmOptions, open_gateway, open_lvlm
from service.wiring.providers import open_providers
from service.wiring.stores import open_stores


@asynccontextmanager
async def open_services(
    settings: Settings, metrics: Metrics, process: ProcessState
) -> AsyncIterator[Services]:
    """Opens everything, warms it up, and closes it at the end.

    Raises:
        BundleError: the bundle does not open.
        ConfigurationError: a setting does not fit the bundle.
    """
    # The stack closes in the reverse order: the stage before the stores that its last calls write to.
    async with AsyncExitStack() as stack:
        # In a thread: a worker whose event loop is silent for long would be taken for one that hangs.
        generation = CurrentGeneration(await asyncio.to_thread(open_generation, settings))
        metrics.set_bundle_info(backbones_of(generation.get()))
        stores = await open_stores(settings, stack)
        executor = BoundedExecutor(settings.candidate_threads, settings.candidate_queue)
        stack.callback(executor.close)
        histories = HistoryReader(stores.events)
        prices = Prices.read()
        providers = open_providers(settings, prices.image_detail)
        gateway = open_gateway(GatewayOptions.of(settings), providers, stores, metrics, prices=prices)
        stage = open_lvlm(LvlmOptions.of(settings), gateway, stores, metrics).stage
        stack.push_async_callback(stage.close)
        recommender = Recommender(
            LvlmChoices(settings.models, settings.provider, settings.default_model, settings.alternatives),
            histories,
            executor,
            stage,
            metrics,
            deadline=settings.deadline_ms / 1000,
        )
        # Without a common store an event would be seen only by the worker that received it.
        events = stores.events if stores.shared or settings.workers == 1 else None
        yield Services(generation, recommender, histories, stores, events, metrics, process)
