"""Opens the bundle anew while the service runs, and swaps the generation."""

from __future__ import annotations

import asyncio
import gc

from models.contracts import BundleError
from service.generation import Generation
from service.http.services import Services
from service.settings import Settings
from service.wiring.candidates import backbones_of, open_generation


async def reload_bundle(settings: Settings, services: Services) -> Generation:
    """Opens the bundle that the settings name, and lets new requests begin with it.

    Requests under way go on with theirs. After an error the service goes on with the bundle that it has.

    Raises:
        BundleError: the bundle does not open, or is of another data set.
        ConfigurationError: a setting does not fit the bundle.
    """
    generation = await asyncio.to_thread(open_generation, settings, services.process.copies)
    check_dataset(generation, services.generation.get().catalogue.manifest.dataset)
    services.generation.swap(generation)
    services.metrics.set_bundle_info(backbones_of(generation))
    # As at the start: what stays is left out of later collections. What the old bundle left is found now.
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    return generation


def check_dataset(generation: Generation, dataset: str) -> None:
    """Checks that a bundle is of the data set that is served.

    Raises:
        BundleError: it is of another one.
    """
    # Stored events name items of a data set; another one's would be looked up in them.
    found = generation.catalogue.manifest.dataset
    if found != dataset:
        raise BundleError(
            f"the bundle is of the data set {found!r} and {dataset!r} is served: stop the service and "
            "start it anew"
        )
