"""Settings of Anthropic, and the functions that open its provider."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import AliasChoices, Field, SecretStr, model_validator

from service.lvlm.providers.anthropic.batches import AnthropicBatches
from service.lvlm.providers.anthropic.messages import AnthropicMessages
from service.lvlm.providers.base import Provider
from service.lvlm.providers.batches import Batches
from service.lvlm.providers.configured_provider import (
    Address,
    ApiKey,
    ConfiguredProvider,
    ImageDetailOf,
    KindSettings,
    Names,
)
from service.lvlm.providers.server_options import ServerOptions
from service.lvlm.providers.wire.base_urls import ANTHROPIC_URL, normalised


class AnthropicOptions(ServerOptions):
    """The options of a server with Anthropic's format, which has one name for the output cap."""

    output_cap: Literal["max_tokens"] = "max_tokens"

    @model_validator(mode="before")
    @classmethod
    def _refuse_output_cap(cls, given: Any) -> Any:
        if isinstance(given, dict) and "output_cap" in given:
            raise ValueError("output_cap does not apply: Anthropic's format caps answers in one way alone")
        return given


class AnthropicSettings(KindSettings):
    """Settings of Anthropic's own API, which is configured once its key is set."""

    NAMES: ClassVar[tuple[str, ...]] = ("anthropic",)

    anthropic_models: Names = ("claude-haiku-4-5", "claude-sonnet-5-5")
    anthropic_base_url: Address = Field(
        "",
        validation_alias=AliasChoices("MSR_ANTHROPIC_BASE_URL", "ANTHROPIC_BASE_URL", "anthropic_base_url"),
    )
    anthropic_options: AnthropicOptions = AnthropicOptions()
    anthropic_api_key: ApiKey = Field(
        SecretStr(""), validation_alias=AliasChoices("ANTHROPIC_API_KEY", "anthropic_api_key")
    )

    def configured(self, *, keyless: bool) -> Sequence[ConfiguredProvider]:
        """See KindSettings."""
        key = self.anthropic_api_key.get_secret_value()
        if not (key or keyless):
            return ()
        return (
            ConfiguredProvider(
                "anthropic",
                self.anthropic_models,
                normalised(self.anthropic_base_url or ANTHROPIC_URL, "anthropic"),
                open_messages,
                open_batches,
                dialect=self.anthropic_options.dialect,
                api_key=key,
                key_variable="ANTHROPIC_API_KEY",
                own_server=True,
            ),
        )


def open_messages(provider: ConfiguredProvider, image_detail: ImageDetailOf) -> Provider:
    """Makes the provider of a server with messages; this format has no detail of a picture."""
    return AnthropicMessages(
        provider.name,
        api_key=provider.api_key,
        base_url=provider.address,
        dialect=provider.dialect,
        send_context=provider.simulated,
        account=provider.own_server,
    )


def open_batches(provider: Provider) -> Batches:
    """Makes the batch API of a server with messages."""
    assert isinstance(provider, AnthropicMessages)
    return AnthropicBatches(provider)
