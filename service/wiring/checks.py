"""Checks that settings and environment fit each other, before anything is started."""

from __future__ import annotations

from service.settings import Settings
from service.web_addresses import is_loopback, read_host


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


def exposure_warnings(settings: Settings) -> list[str]:
    """Returns a sentence for each way in which strangers, or a mistake, could make the service cost money."""
    warnings = []
    if not settings.api_key.get_secret_value() and not is_loopback(read_host(settings.host) or settings.host):
        warnings.append(
            f"every machine that reaches {settings.host} may ask, write events and forget people: "
            "set MSR_API_KEY, or MSR_HOST=127.0.0.1"
        )
    no_budget = settings.budget_usd_per_hour is None and settings.budget_usd_per_day is None
    paid = [
        provider.name
        for provider in settings.providers.values()
        if provider.api_key and not provider.simulated
    ]
    if paid and not settings.replays and no_budget:
        warnings.append(
            f"calls of {', '.join(paid)} cost money and nothing limits them: "
            "set MSR_BUDGET_USD_PER_DAY or MSR_BUDGET_USD_PER_HOUR"
        )
    return warnings
