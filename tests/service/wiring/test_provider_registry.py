"""Tests that a new kind of provider needs only its settings and one base in the registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest
from controlled_provider import ControlledProvider, says

from service.errors import ConfigurationError
from service.lvlm.providers import registry
from service.lvlm.providers.base import Call, Prompt, Text, TextDelta
from service.lvlm.providers.configured_provider import ConfiguredProvider, KindSettings, Names
from service.lvlm.providers.registry import BUILT_IN, SIMULATORS, ProviderSettings
from service.settings import Settings
from service.wiring.checks import unpriced
from service.wiring.providers import open_batches, open_providers

CALL = Call(Prompt("Rank.", (Text("data"),), None, "1"), "toy-1", 100)


class ToySettings(KindSettings):
    """A kind that needs no key and answers out of its head."""

    NAMES: ClassVar[tuple[str, ...]] = ("toy",)

    toy_models: Names = ("toy-1", "toy-2")

    def configured(self, *, keyless: bool) -> Sequence[ConfiguredProvider]:
        return (
            ConfiguredProvider(
                "toy",
                self.toy_models,
                "http://127.0.0.1:9",
                lambda provider, detail: ControlledProvider(says(detail("toy-1")), name=provider.name),
            ),
        )


class SettingsWithToy(Settings, ToySettings):
    pass


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_KINDS", (*ProviderSettings.__bases__, ToySettings))


async def test_it_is_configured_opened_and_called() -> None:
    settings = SettingsWithToy(provider="toy", toy_models="toy-2, toy-1")
    assert settings.models == {"toy": ("toy-2", "toy-1")}
    assert settings.default_model == "toy-2"
    assert settings.destinations == ["toy: calls go without a key to 127.0.0.1:9"]
    (provider,) = open_providers(settings, lambda _: "low").values()
    events = [event async for event in provider.stream(CALL)]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "low"


def test_what_it_has_not_is_said() -> None:
    settings = SettingsWithToy(provider="toy", budget_usd_per_day=1)
    assert unpriced(settings) == ["toy/toy-1", "toy/toy-2"]
    with pytest.raises(ConfigurationError, match="no batch API is known for toy"):
        open_batches(settings, open_providers(settings, lambda _: "low")["toy"])


def test_the_built_in_names_are_those_of_the_kinds() -> None:
    assert (*SIMULATORS, "openai", "anthropic") == BUILT_IN
