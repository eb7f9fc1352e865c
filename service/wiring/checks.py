"""Checks that settings and environment fit each other, before anything is started."""

from __future__ import annotations

from service.settings import Settings


def check_providers(settings: Settings) -> None:
    """Checks keys, addresses and proxies of the providers.

    Raises:
        ConfigurationError: something does not fit; the message names the setting.
    """
    for provider in () if settings.replays else settings.providers.values():
        # Without an address a simulator is started beside the service later: nothing to check yet.
        if not provider.simulated or settings.simulator_url:
            provider.check()


def unpriced(settings: Settings) -> list[str]:
    """Returns the models without a price, as ``provider/model``; none where there is no budget."""
    if settings.budget_usd_per_hour is None and settings.budget_usd_per_day is None:
        return []
    # The parent of several workers reads this module too, and stays small without the stage behind prices.
    from service.lvlm.cost.prices import Prices
    from service.lvlm.providers.base import Usage

    prices = Prices.read()
    return [
        f"{provider.name}/{model}"
        for provider in settings.providers.values()
        for model in provider.models
        if not provider.simulated and prices.cost(model, Usage()) is None
    ]
