"""Settings of the simulator, which stands in for a vendor in OpenAI's and in Anthropic's wire format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from service.lvlm.providers.anthropic import settings as anthropic
from service.lvlm.providers.configured_provider import Address, ConfiguredProvider, KindSettings, Names
from service.lvlm.providers.openai import settings as openai
from service.lvlm.providers.server_options import ServerOptions
from service.lvlm.providers.wire.base_urls import normalised

OPENAI_WIRE, ANTHROPIC_WIRE = SIMULATORS = ("simulator", "simulator-anthropic")
"""Names of the simulator as a provider, one for each wire format; calls of neither cost anything."""


class SimulatorSettings(KindSettings):
    """Settings of the simulator, which is configured as the default provider or by its address."""

    NAMES: ClassVar[tuple[str, ...]] = SIMULATORS

    simulator_url: Address = ""
    simulator_profile: Literal["instant", "fast", "paper"] = "fast"
    simulator_bills: bool = False
    simulator_models: Names = ("sim-gpt-4o", "sim-gpt-4v", "sim-claude-3-opus")

    @property
    def simulated(self) -> bool:
        """Whether the default provider is the simulator."""
        return self.provider in SIMULATORS

    def configured(self, *, keyless: bool) -> Sequence[ConfiguredProvider]:
        """See KindSettings; the key that is sent is the provider's name."""
        if not (self.simulated or self.simulator_url):
            return ()
        # Both wire formats are served below the same root.
        root = normalised(self.simulator_url, "anthropic") if self.simulator_url else ""
        problem = (
            ""
            if root
            else "no simulator runs: `python -m service` starts one beside itself; otherwise set "
            "MSR_SIMULATOR_URL to the address that `python -m service.simulator` prints"
        )
        return (
            ConfiguredProvider(
                OPENAI_WIRE,
                self.simulator_models,
                root and f"{root}/v1",
                openai.open_chat,
                openai.open_batches,
                dialect=ServerOptions().dialect,
                api_key=OPENAI_WIRE,
                simulated=True,
                problem=problem,
            ),
            ConfiguredProvider(
                ANTHROPIC_WIRE,
                self.simulator_models,
                root,
                anthropic.open_messages,
                anthropic.open_batches,
                dialect=anthropic.AnthropicOptions().dialect,
                api_key=ANTHROPIC_WIRE,
                simulated=True,
                problem=problem,
            ),
        )
