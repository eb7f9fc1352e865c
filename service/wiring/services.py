"""Opens everything that the service's routes use, and closes it at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from service.catalogue import images, item_search
from service.catalogue.histories import HistoryReader
from service.executor import BoundedExecutor
from service.generation import CurrentGeneration
from service.http.client_limits import ClientLimits
from service.http.links import Links
from service.http.process_state import ProcessState
from service.http.services import Services
from service.lvlm.cost.prices import Prices
from service.lvlm_selection import LvlmChoices
from service.metrics import Metrics
from service.recommender import Recommender
from service.settings import Settings
from service.wiring.candidates import backbones_of, open_generation
from service.wiring.events import check_events, open_events
from service.wiring.lvlm import GatewayOptions, LvlmOptions, open_gateway, open_lvlm
from service.wiring.providers import open_providers
from service.wiring.stores import follow_events, open_stores


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
        generation = CurrentGeneration(await asyncio.to_thread(open_generation, settings, process.copies))
        metrics.set_bundle_info(backbones_of(generation.get()))
        stores = await open_stores(settings, stack)
        dataset = generation.get().catalogue.manifest.dataset
        await asyncio.to_thread(check_events, settings, dataset)
        events = await open_events(settings, dataset, metrics, stack)
        follow_events(settings, events, stores, stack)
        executor = BoundedExecutor(settings.candidate_threads, settings.candidate_queue)
        stack.callback(executor.close)
        search_threads = BoundedExecutor(item_search.THREADS, item_search.QUEUE, "searches")
        stack.callback(search_threads.close)
        image_threads = BoundedExecutor(images.THREADS, images.QUEUE, "pictures")
        stack.callback(image_threads.close)
        histories = HistoryReader(events)
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
        client_limits = ClientLimits.of(
            settings.client_requests_per_minute,
            settings.client_lvlm_calls_per_minute,
            workers=settings.workers,
            shared=stores.rates,
            metrics=metrics,
        )
        yield Services(
            generation=generation,
            recommender=recommender,
            search_threads=search_threads,
            image_threads=image_threads,
            histories=histories,
            stores=stores,
            events=events,
            metrics=metrics,
            links=Links(settings.root_path),
            client_limits=client_limits,
            process=process,
        )
