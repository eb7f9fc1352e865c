"""Settings of OpenAI and of servers that speak its format, and the functions that open these providers."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import AliasChoices, Field, SecretStr, StringConstraints, field_validator, model_validator

from service.lvlm.providers.base import Provider
from service.lvlm.providers.batches import Batches
from service.lvlm.providers.configured_provider import (
    Address,
    ApiKey,
    ConfiguredProvider,
    ImageDetailOf,
    KindSettings,
    Names,
    ProviderName,
)
from service.lvlm.providers.openai.batches import OpenAIBatches
from service.lvlm.providers.openai.chat import OpenAIChat
from service.lvlm.providers.server_options import NOT_SENDABLE, ServerOptions, sendable
from service.lvlm.providers.wire.base_urls import OPENAI_URL, normalised
from service.lvlm.providers.wire.dialect import OutputCap

ModelName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class CompatibleProvider(ServerOptions):
    """A server that speaks OpenAI's chat completions: vLLM, Ollama, llama.cpp, Azure, a gateway.

    Attributes:
        base_url: base URL, with or without ``/v1``.
        models: names of its models, the default first.
        api_key_variable: environment variable that holds the key; empty for servers without keys.
        output_cap: name of the field that caps an answer; most of these servers know the older one alone.
    """

    base_url: str
    models: tuple[ModelName, ...] = Field(min_length=1)
    api_key_variable: str = ""
    output_cap: OutputCap = "max_tokens"

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, url: str) -> str:
        normalised(url, "openai")
        return url

    @field_validator("api_key_variable")
    @classmethod
    def _check_api_key_variable(cls, name: str) -> str:
        # What is no name may be a pasted key, so that the message does not show it.
        if name and not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise ValueError("must be the name of an environment variable that holds the key")
        return name

    @model_validator(mode="after")
    def _check_there_is_a_key(self) -> CompatibleProvider:
        if self.api_key_header and not self.api_key_variable:
            raise ValueError("api_key_header needs api_key_variable, which names the variable of the key")
        return self


class OpenAISettings(KindSettings):
    """Settings of OpenAI's own API, which is configured once its key is set."""

    NAMES: ClassVar[tuple[str, ...]] = ("openai",)

    openai_models: Names = ("gpt-5.4-mini", "gpt-4o", "gpt-4o-mini")
    openai_base_url: Address = Field(
        "", validation_alias=AliasChoices("MSR_OPENAI_BASE_URL", "OPENAI_BASE_URL", "openai_base_url")
    )
    openai_options: ServerOptions = ServerOptions()
    openai_api_key: ApiKey = Field(
        SecretStr(""), validation_alias=AliasChoices("OPENAI_API_KEY", "openai_api_key")
    )

    def configured(self, *, keyless: bool) -> Sequence[ConfiguredProvider]:
        """See KindSettings."""
        key = self.openai_api_key.get_secret_value()
        if not (key or keyless):
            return ()
        return (
            ConfiguredProvider(
                "openai",
                self.openai_models,
                normalised(self.openai_base_url or OPENAI_URL, "openai"),
                open_chat,
                open_batches,
                dialect=self.openai_options.dialect,
                api_key=key,
                key_variable="OPENAI_API_KEY",
                own_server=True,
            ),
        )


class CompatibleSettings(KindSettings):
    """Settings of servers that speak OpenAI's format, each declared by name."""

    compatible: dict[ProviderName, CompatibleProvider] = Field(default_factory=dict)

    def configured(self, *, keyless: bool) -> Sequence[ConfiguredProvider]:
        """See KindSettings; one without its key is included, and has a problem if it needs the key."""
        return tuple(_compatible(name, server) for name, server in self.compatible.items())


def _compatible(name: str, server: CompatibleProvider) -> ConfiguredProvider:
    variable, problem = server.api_key_variable, ""
    key = os.environ.get(variable, "") if variable else ""
    if variable and not key:
        # The setting's value is not shown: it may be a key, pasted where its variable's name belongs.
        problem = f"MSR_COMPATIBLE.{name}.api_key_variable: the variable that it names is not set"
    elif not sendable(key):
        problem = f"{variable}: {NOT_SENDABLE}"
    return ConfiguredProvider(
        name,
        server.models,
        normalised(server.base_url, "openai"),
        open_chat,
        dialect=server.dialect,
        api_key=key,
        key_variable=variable,
        problem=problem,
    )


def open_chat(provider: ConfiguredProvider, image_detail: ImageDetailOf) -> Provider:
    """Makes the provider of a server with chat completions."""
    return OpenAIChat(
        provider.name,
        api_key=provider.api_key,
        image_detail=image_detail,
        base_url=provider.address,
        dialect=provider.dialect,
        send_context=provider.simulated,
        account=provider.own_server,
    )


def open_batches(provider: Provider) -> Batches:
    """Makes the batch API of a server with chat completions."""
    assert isinstance(provider, OpenAIChat)
    return OpenAIBatches(provider)
