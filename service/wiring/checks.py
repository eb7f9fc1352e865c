"""Checks that settings, bundle and environment fit each other, before anything is started."""

from __future__ import annotations

from service.catalogue.bundle import Bundle
from service.errors import ConfigurationError
from service.lvlm.cost.prices import Prices
from service.lvlm.providers.base import Usage
from service.settings import Settings
from service.wiring.candidates import default_backbone
from service.wiring.events import check_events
from service.wiring.lvlm import budget_of


def check(settings: Settings, bundle: Bundle) -> None:
    """Checks the providers' keys, addresses and proxies, default backbone, captioner and file of events.

    Raises:
        ConfigurationError: something does not fit; the message names the setting.
    """
    for provider in () if settings.replays else settings.providers.values():
        # Without an address a simulator is started beside the service later: nothing to check yet.
        if not provider.simulated or settings.simulator_url:
            provider.check()
    default_backbone(bundle, settings.backbone)
    captioners = bundle.catalogue.captions
    if settings.captioner and settings.captioner not in captioners:
        raise ConfigurationError(
            f"MSR_CAPTIONER is {settings.captioner!r}; this bundle has captions of "
            f"{', '.join(captioners) or 'no captioner'}"
        )
    check_events(settings, bundle.catalogue.manifest.dataset)


def unpriced(settings: Settings) -> list[str]:
    """Returns the models without a price, as ``provider/model``; none where there is no budget."""
    if not budget_of(settings).limited:
        return []
    prices = Prices.read()
    return [
        f"{provider.name}/{model}"
        for provider in settings.providers.values()
        for model in provider.models
        if not provider.simulated and prices.cost(model, Usage()) is None
    ]
