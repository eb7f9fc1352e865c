"""Opens the providers that the settings name, and their batch APIs; the registry lists the kinds."""

from __future__ import annotations

from functools import partial

from service.errors import ConfigurationError
from service.lvlm.providers.base import Provider
from service.lvlm.providers.batches import Batches
from service.lvlm.providers.cassettes import Cassette, CassetteWriter, Player, Recorder
from service.lvlm.providers.configured_provider import ImageDetailOf
from service.lvlm.providers.lazy_provider import LazyProvider
from service.settings import Settings


def open_providers(
    settings: Settings, image_detail: ImageDetailOf, only: str | None = None
) -> dict[str, Provider]:
    """Opens every configured provider, by name, or only one of them.

    This imports the SDKs that they use. The simulator's second wire format, which few requests ask for, is
    opened by its first call.

    Args:
        settings: settings with keys and addresses.
        image_detail: function that gives the detail with which a model is sent images.
        only: name of the one provider to open; None for all.

    Raises:
        ConfigurationError: a key or a proxy on the way cannot be used, or a cassette cannot be read.
    """
    providers: dict[str, Provider] = {}
    configured = [each for name, each in settings.providers.items() if only in (None, name)]
    cassette = settings.cassette
    if cassette and settings.replays:  # all answers come from the cassette, and no provider is opened
        recorded = Cassette.read(cassette)
        return {each.name: Player(each.name, recorded) for each in configured}
    for each in configured:
        opening = partial(each.open, image_detail)
        # The default provider is opened now, so that no request waits for the import of its SDK.
        late = each.simulated and each.name not in (settings.provider, only)
        providers[each.name] = LazyProvider(each.name, opening) if late else opening()
        if cassette:
            providers[each.name] = Recorder(providers[each.name], CassetteWriter(cassette))
    return providers


def open_batches(settings: Settings, provider: Provider) -> Batches:
    """Opens the batch API of an open provider.

    Raises:
        ConfigurationError: the provider has no batch API, or a cassette is set.
    """
    if settings.cassette:
        raise ConfigurationError("batches are not on cassettes: leave --batch or MSR_CASSETTE out")
    return settings.providers[provider.name].open_batches(provider)
