"""Lists all kinds of providers. A new kind is a folder beside this file and one base of ProviderSettings."""

from __future__ import annotations

from service.lvlm.providers.anthropic.settings import AnthropicSettings
from service.lvlm.providers.configured_provider import ConfiguredProvider, KindSettings
from service.lvlm.providers.openai.settings import CompatibleSettings, OpenAISettings
from service.lvlm.providers.simulator.settings import SIMULATORS, SimulatorSettings

__all__ = ["BUILT_IN", "SIMULATORS", "ConfiguredProvider", "ProviderSettings"]


class ProviderSettings(SimulatorSettings, OpenAISettings, AnthropicSettings, CompatibleSettings):
    """The settings of all kinds of providers."""

    def configured_providers(self, *, keyless: bool) -> dict[str, ConfiguredProvider]:
        """Returns every configured provider by its name, kind by kind.

        Args:
            keyless: whether to include providers that lack nothing but a key.
        """
        return {
            provider.name: provider
            for kind in _KINDS
            for provider in kind.configured(self, keyless=keyless)  # by class: self.configured is the first's
        }


_KINDS: tuple[type[KindSettings], ...] = ProviderSettings.__bases__

BUILT_IN = tuple(name for kind in _KINDS for name in kind.NAMES)
"""Names of providers that need no declaration; no declared server may have one of them."""
