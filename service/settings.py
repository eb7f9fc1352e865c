"""Every knob of the service: environment variables ``MSR_…``, checked before anything starts."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from service.errors import ConfigurationError
from service.lvlm.providers.addresses import ANTHROPIC_URL, OPENAI_URL, host_of, normalised
from service.lvlm.providers.dialect import Dialect
from service.server_options import (
    NOT_SENDABLE,
    AnthropicOptions,
    CompatibleProvider,
    ServerOptions,
    sendable,
)
from service.settings_sentences import nested_too_deeply, sentence

DEMO_BUNDLE = Path(__file__).parent / "demo"

SIMULATORS = ("simulator", "simulator-anthropic")
"""The simulator under OpenAI's and under Anthropic's wire format."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
Models = Annotated[tuple[str, ...], NoDecode]


class ProviderLimit(BaseModel):
    """What a provider, or one model of it, allows; shared by all workers through Redis."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)


class Settings(BaseSettings):
    """What a deployment can choose. Field ``x`` is the variable ``MSR_X``; see ``.env.example``."""

    model_config = SettingsConfigDict(
        env_prefix="MSR_", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    # Where it listens
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    workers: int = Field(1, ge=1, le=64)
    api_key: SecretStr = SecretStr("")
    max_body_bytes: int = Field(1_048_576, ge=1024)

    # What it serves
    bundle: Path = DEMO_BUNDLE
    backbone: str = ""
    captioner: str = ""

    # Candidate generation
    candidate_threads: int = Field(2, ge=1, le=64)
    candidate_queue: int = Field(2_048, ge=1)
    onnx_threads: int = Field(1, ge=1, le=64)

    # The LVLM stage
    provider: Name = "simulator"
    model: str = ""
    deadline_ms: int = Field(10_000, ge=0, le=300_000)
    lvlm_stream: bool = True
    lvlm_concurrency: int = Field(256, ge=1)
    lvlm_adaptive: bool = True
    lvlm_hedge: float = Field(0.05, ge=0, le=1)
    lvlm_attempts: int = Field(3, ge=1, le=10)
    lvlm_call_ms: int = Field(60_000, ge=0, le=600_000)
    lvlm_limits: dict[str, ProviderLimit] = Field(default_factory=dict)
    fallbacks: Models = ()
    budget_usd_per_hour: float | None = Field(None, gt=0)
    budget_usd_per_day: float | None = Field(None, gt=0)
    unpriced_calls: Literal["refuse", "allow"] = "refuse"
    caption_fill: bool = True
    max_output_tokens: int = Field(2_048, ge=64, le=32_768)
    thumbnail_cache_bytes: int = Field(67_108_864, ge=0)
    simulator_url: str = ""
    simulator_profile: Literal["instant", "fast", "paper"] = "fast"
    simulator_bills: bool = False
    simulator_models: Models = ("sim-gpt-4o", "sim-gpt-4v", "sim-claude-3-opus")
    openai_models: Models = ("gpt-5.4-mini", "gpt-4o", "gpt-4o-mini")
    openai_base_url: str = Field(
        "", validation_alias=AliasChoices("MSR_OPENAI_BASE_URL", "OPENAI_BASE_URL", "openai_base_url")
    )
    openai_options: ServerOptions = ServerOptions()
    openai_api_key: SecretStr = Field(
        SecretStr(""), validation_alias=AliasChoices("OPENAI_API_KEY", "openai_api_key")
    )
    anthropic_models: Models = ("claude-haiku-4-5", "claude-sonnet-5-5")
    anthropic_base_url: str = Field(
        "",
        validation_alias=AliasChoices("MSR_ANTHROPIC_BASE_URL", "ANTHROPIC_BASE_URL", "anthropic_base_url"),
    )
    anthropic_options: AnthropicOptions = AnthropicOptions()
    anthropic_api_key: SecretStr = Field(
        SecretStr(""), validation_alias=AliasChoices("ANTHROPIC_API_KEY", "anthropic_api_key")
    )
    compatible: dict[Name, CompatibleProvider] = Field(default_factory=dict)

    # What it remembers
    redis_url: SecretStr = SecretStr("")
    redis_timeout_ms: int = Field(500, ge=1, le=60_000)
    memory_cache_bytes: int = Field(67_108_864, ge=0)
    answer_ttl_s: int = Field(86_400, ge=1)
    answer_stale_s: int = Field(86_400, ge=0)
    answer_negative_s: int = Field(60, ge=0)
    caption_ttl_s: int = Field(2_592_000, ge=1)
    events_ttl_s: int = Field(2_592_000, ge=1)

    # What it records
    cassette: Path | None = None
    cassette_mode: Literal["record", "replay"] = "replay"

    # What it says
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "text"

    @field_validator("simulator_models", "openai_models", "anthropic_models", "fallbacks", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        """Names arrive as one comma-separated string."""
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("openai_base_url", "anthropic_base_url", "simulator_url")
    @classmethod
    def _check_base_url(cls, url: str) -> str:
        if url:
            normalised(url, "openai")
        return url

    @field_validator("api_key")
    @classmethod
    def _check_api_key(cls, key: SecretStr) -> SecretStr:
        """Clients send it in a header, and may send letters beyond ASCII."""
        if (
            not key.get_secret_value().isprintable()
            or key.get_secret_value().strip() != key.get_secret_value()
        ):
            raise ValueError("holds control characters, or white space around it, which no header can carry")
        return key

    @field_validator("openai_api_key", "anthropic_api_key")
    @classmethod
    def _check_key(cls, key: SecretStr) -> SecretStr:
        if not sendable(key.get_secret_value()):
            raise ValueError(NOT_SENDABLE)
        return key

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: SecretStr) -> SecretStr:
        """The client's own parser is asked, and not quoted: it shows what may be a part of a password."""
        text = url.get_secret_value()
        if text and not re.match(r"(rediss?|unix)://", text):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        if not text:
            return url
        from service.stores.redis_store import is_redis_url  # slow to load, and needed with Redis alone

        if not is_redis_url(text):
            raise ValueError(
                "must be redis://[user:password@]host[:port][/database] with a port up to 65535; in a "
                "password, write % as %25, # as %23, / as %2F, ? as %3F and @ as %40"
            )
        return url

    @model_validator(mode="after")
    def _check_provider(self) -> Settings:
        taken = {*SIMULATORS, "openai", "anthropic"} & self.compatible.keys()
        if taken:
            raise ValueError(
                f"MSR_COMPATIBLE must not name {', '.join(sorted(taken))}: these names are built in"
            )
        models = self.models
        for provider, configured in models.items():
            if not configured:
                raise ValueError(f"the provider {provider} has no model: name at least one")
        if self.provider in ("openai", "anthropic") and self.provider not in models:
            raise ValueError(f"MSR_PROVIDER is {self.provider!r}: set {self.provider.upper()}_API_KEY")
        if self.provider not in models:
            names = ", ".join((*SIMULATORS, "openai", "anthropic", *self.compatible))
            raise ValueError(
                f"MSR_PROVIDER is {self.provider!r}; choose one of {names} or add it to MSR_COMPATIBLE"
            )
        if self.model and self.model not in models[self.provider]:
            raise ValueError(
                f"MSR_MODEL is {self.model!r}; configured for {self.provider} are "
                f"{', '.join(models[self.provider])}"
            )
        self._check_named("MSR_FALLBACKS", self.fallbacks, model_required=True)
        self._check_named("MSR_LVLM_LIMITS", self.lvlm_limits, model_required=False)
        return self

    def _check_named(self, variable: str, names: Iterable[str], *, model_required: bool) -> None:
        for name in names:
            provider, slash, model = name.partition("/")
            known = self.models.get(provider)
            if known is None or (slash and model not in known) or (model_required and not slash):
                form = "provider/model" if model_required else "provider or provider/model"
                choices = ", ".join(f"{p}/{m}" for p, models in self.models.items() for m in models)
                raise ValueError(f"{variable} names {name!r}; a {form} of these: {choices}")

    @property
    def alternatives(self) -> tuple[tuple[str, str], ...]:
        """The providers and models of ``MSR_FALLBACKS``, in their order."""
        pairs = (name.partition("/") for name in self.fallbacks)
        return tuple((provider, model) for provider, _, model in pairs)

    @property
    def replays(self) -> bool:
        """Whether answers come from a cassette, so that nobody needs a key."""
        return self.cassette is not None and self.cassette_mode == "replay"

    @property
    def models(self) -> dict[str, tuple[str, ...]]:
        """The models of every configured provider; the first is the provider's default."""
        models: dict[str, tuple[str, ...]] = {}
        if self.simulated or self.simulator_url:
            models = {"simulator": self.simulator_models, "simulator-anthropic": self.simulator_models}
        if self.openai_api_key.get_secret_value() or self.replays:
            models["openai"] = self.openai_models
        if self.anthropic_api_key.get_secret_value() or self.replays:
            models["anthropic"] = self.anthropic_models
        models.update({name: provider.models for name, provider in self.compatible.items()})
        return models

    def address(self, provider: str) -> str:
        """The base URL of a configured provider's server, as its wire format needs it.

        Raises:
            ConfigurationError: the simulator is the provider, and none runs.
        """
        if provider in SIMULATORS and not self.simulator_url:
            raise ConfigurationError(
                "no simulator runs: `python -m service` starts one beside itself; otherwise set "
                "MSR_SIMULATOR_URL to the address that `python -m service.simulator` prints"
            )
        match provider:
            case "openai":
                return normalised(self.openai_base_url or OPENAI_URL, "openai")
            case "anthropic":
                return normalised(self.anthropic_base_url or ANTHROPIC_URL, "anthropic")
            case "simulator":
                return f"{normalised(self.simulator_url, 'anthropic')}/v1"
            case "simulator-anthropic":
                return normalised(self.simulator_url, "anthropic")
        return normalised(self.compatible[provider].base_url, "openai")

    def dialect(self, provider: str) -> Dialect:
        """How a configured provider's server wants to be spoken to."""
        match provider:
            case "openai":
                return self.openai_options.dialect
            case "anthropic":
                return self.anthropic_options.dialect
            case "simulator":
                return ServerOptions().dialect
            case "simulator-anthropic":
                return AnthropicOptions().dialect
        return self.compatible[provider].dialect

    def key(self, provider: str) -> str:
        """The key of a configured provider; empty for a server without keys.

        Raises:
            ConfigurationError: its variable is not set, or no header can carry what is in it.
        """
        match provider:
            case "openai":
                return self.openai_api_key.get_secret_value()
            case "anthropic":
                return self.anthropic_api_key.get_secret_value()
            case "simulator" | "simulator-anthropic":
                return provider
        variable = self.compatible[provider].api_key_variable
        key = os.environ.get(variable, "") if variable else ""
        if variable and not key:
            raise ConfigurationError(
                # Its value is not shown: it may be a key that was pasted for the name of its variable.
                f"MSR_COMPATIBLE.{provider}.api_key_variable: the variable that it names is not set"
            )
        if not sendable(key):
            raise ConfigurationError(f"{variable}: {NOT_SENDABLE}")
        return key

    @property
    def destinations(self) -> list[str]:
        """A sentence for each provider but the simulator: which key goes to which host."""
        keys = {name: provider.api_key_variable for name, provider in self.compatible.items()}
        keys |= {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
        sentences = []
        for name in () if self.replays else self.models:
            if name not in SIMULATORS:
                host = host_of(self.address(name))
                key = f"{keys[name]} goes" if keys[name] else "calls go without a key"
                sentences.append(f"{name}: {key} to {host}")
        return sentences

    @property
    def simulated(self) -> bool:
        """Whether the default provider is the simulator."""
        return self.provider in SIMULATORS

    @property
    def default_model(self) -> str:
        """The model of the default provider unless ``MSR_MODEL`` names one."""
        return self.model or self.models[self.provider][0]


def read_settings() -> Settings:
    """Read the environment.

    Raises:
        ConfigurationError: a value is wrong; the message names the variable and never shows a secret.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigurationError("; ".join(_sentence(problem) for problem in error.errors())) from None
    except RecursionError:  # raised by the JSON parser, which does not say where
        names = [name for name in _variables() if nested_too_deeply(os.environ.get(name, ""))]
        raise ConfigurationError(f"{', '.join(names) or 'MSR_*'}: the JSON is nested too deeply") from None
    except SettingsError as error:  # its text names the field and not the variable
        name = re.search(r'field "(\w+)"', str(error))
        raise ConfigurationError(f"MSR_{name[1].upper() if name else '*'}: not valid JSON") from None


def unknown_variables() -> list[str]:
    """Variables that look like ours and are not, with the nearest real name: most likely misspelt."""
    known = _variables()
    sentences = []
    for name in sorted(os.environ):
        if name.startswith("MSR_") and name not in known and not name.startswith("MSR_TEST_"):
            near = difflib.get_close_matches(name, known, n=1)
            sentences.append(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
    return sentences


def _sentence(problem: object) -> str:
    assert isinstance(problem, dict)
    location = [str(part) for part in problem["loc"]]
    message = sentence(problem, {**CompatibleProvider.model_fields, **ProviderLimit.model_fields})
    if not location:
        return message
    return f"{'.'.join([_variable(location[0]), *location[1:]])}: {message}"


def _variables() -> list[str]:
    return [f"MSR_{name.upper()}" for name in Settings.model_fields]


def _variable(name: str) -> str:
    """The variable that a value came from, whatever it is called where the problem was found."""
    sdk = name.upper().removeprefix("MSR_")
    if sdk in _SDK_KEYS or (sdk in _SDK_ADDRESSES and not os.environ.get(f"MSR_{sdk}")):
        return sdk
    return f"MSR_{sdk}"


# Names of the vendors' SDKs; for an address there is one of ours too, which comes first.
_SDK_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")
_SDK_ADDRESSES = ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL")
