"""Opens the providers that the settings name; which kinds there are is in the registry of providers."""

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
    """Opens every configured provider, by name, or one of them.

    The SDKs that they use are imported here and nowhere before; only the simulator's other wire format, which
    hardly any request asks for, waits until it is asked.

    Raises:
        ConfigurationError: a key or a proxy on the way cannot be used, or a cassette cannot be read.
    """
    providers: dict[str, Provider] = {}
    configured = [each for name, each in settings.providers.items() if only in (None, name)]
    cassette = settings.cassette
    if cassette and settings.replays:
        played = Cassette.read(cassette)
        return {each.name: Player(each.name, played) for each in configured}
    for each in configured:
        opening = partial(each.open, image_detail)
        late = each.simulated and each.name not in (settings.provider, only)
        providers[each.name] = LazyProvider(each.name, opening) if late else opening()
        if cassette:
            providers[each.name] = Recorder(providers[each.name], CassetteWriter(cassette))
    return providers


def open_batches(settings: Settings, provider: Provider) -> Batches:
    """Opens the batch API of an open provider.

    Raises:
        ConfigurationError: it has none, or calls are played from a cassette.
    """
    if settings.cassette:
        raise ConfigurationError("batches are not on cassettes: leave --batch or MSR_CASSETTE out")
    return settings.providers[provider.name].open_batches(provider)
