"""Declares all settings of the service but those of the providers, and checks that they fit each other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from platformdirs import user_data_path
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.lvlm.providers.configured_provider import Names
from service.lvlm.providers.registry import BUILT_IN, ConfiguredProvider, ProviderSettings
from service.lvlm.providers.wire.base_urls import host_of
from service.settings.client_access import Hosts, Origins, Proxies, RootPath
from service.stores.redis_server import urls as redis_urls

DEMO_BUNDLE = Path(__file__).parents[1] / "demo"
"""The bundle that is served unless the deployment names another."""


class ProviderLimit(BaseModel):
    """Rate limits of a provider or of one of its models, which all workers share through Redis.

    Attributes:
        requests_per_minute: calls per minute; None for no limit.
        tokens_per_minute: tokens per minute, input and output together; None for no limit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)


class Settings(ProviderSettings, BaseSettings):
    """All settings of a deployment. Field ``x`` is the variable ``MSR_X``; ``.env.example`` explains each."""

    model_config = SettingsConfigDict(
        env_prefix="MSR_",
        env_ignore_empty=True,
        extra="ignore",  # `unknown_variables` warns of them
        frozen=True,
        populate_by_name=True,
    )

    # Units are in the names: _ms, _s, _bytes, _usd.

    # Where it listens
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    workers: int = Field(1, ge=1, le=64)
    root_path: RootPath = ""
    max_connections: int = Field(4_096, ge=8)
    head_timeout_s: float = Field(10, gt=0)
    transfer_timeout_s: float = Field(30, gt=0)
    idle_timeout_s: float = Field(60, gt=0)
    max_body_bytes: int = Field(1_048_576, ge=1024)
    stop_s: float = Field(35, ge=0, le=600)
    drain_s: float = Field(5, ge=0, le=600)

    # Who may ask, and how much
    api_key: SecretStr = SecretStr("")
    read_key: SecretStr = SecretStr("")
    metrics_open: bool = True
    allowed_hosts: Hosts = ()
    cors_origins: Origins = ()
    trusted_proxies: Proxies = ()
    client_requests_per_minute: int = Field(300_000, ge=0)
    client_lvlm_calls_per_minute: int = Field(30_000, ge=0)

    # What it serves
    bundle: Path = DEMO_BUNDLE
    backbone: str = ""
    captioner: str = ""

    # Candidate generation
    candidate_threads: int = Field(2, ge=1, le=64)
    candidate_queue: int = Field(2_048, ge=1)
    onnx_threads: int = Field(1, ge=1, le=64)

    # The LVLM stage
    model: str = ""
    deadline_ms: int = Field(10_000, ge=0, le=300_000)
    lvlm_stream: bool = True
    lvlm_concurrency: int = Field(256, ge=1)
    lvlm_adaptive: bool = True
    lvlm_hedge: float = Field(0.05, ge=0, le=1)
    lvlm_attempts: int = Field(3, ge=1, le=10)
    lvlm_call_ms: int = Field(60_000, ge=0, le=600_000)
    lvlm_limits: dict[str, ProviderLimit] = Field(default_factory=dict)
    fallbacks: Names = ()
    budget_usd_per_hour: float | None = Field(None, gt=0)
    budget_usd_per_day: float | None = Field(None, gt=0)
    unpriced_calls: Literal["refuse", "allow"] = "refuse"
    caption_fill: bool = True
    max_output_tokens: int = Field(2_048, ge=64, le=32_768)
    thumbnail_cache_bytes: int = Field(67_108_864, ge=0)

    # What it remembers
    redis_url: SecretStr = SecretStr("")
    redis_timeout_ms: int = Field(500, ge=1, le=60_000)
    memory_cache_bytes: int = Field(67_108_864, ge=0)
    answer_ttl_s: int = Field(86_400, ge=1)
    answer_stale_s: int = Field(86_400, ge=0)
    answer_negative_s: int = Field(60, ge=0)
    caption_ttl_s: int = Field(2_592_000, ge=1)

    # Events that it keeps
    data: Path = Field(default_factory=lambda: user_data_path("msr-serve"))
    events_url: SecretStr = SecretStr("")
    events_max_users: int = Field(1_000_000, ge=1)
    events_max_bytes: int = Field(10_737_418_240, ge=1_048_576)
    events_fsync_ms: int = Field(1_000, ge=0, le=60_000)
    events_retention_s: int | None = Field(None, ge=1)

    # What it records
    cassette: Path | None = None
    cassette_mode: Literal["record", "replay"] = "replay"

    # What it says
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "text"

    @field_validator("api_key", "read_key")
    @classmethod
    def _check_api_key(cls, key: SecretStr) -> SecretStr:
        """Refuses a key that clients cannot send in a header; letters beyond ASCII are fine."""
        if (
            not key.get_secret_value().isprintable()
            or key.get_secret_value().strip() != key.get_secret_value()
        ):
            raise ValueError("holds control characters, or white space around it, which no header can carry")
        return key

    @model_validator(mode="after")
    def _check_keys(self) -> Settings:
        """Refuses settings that mean nothing without a key, and one key for both purposes."""
        key, read_key = self.api_key.get_secret_value(), self.read_key.get_secret_value()
        if not key and (read_key or not self.metrics_open):
            name = "MSR_READ_KEY" if read_key else "MSR_METRICS_OPEN=false"
            raise ValueError(f"{name} needs MSR_API_KEY, without which every request is answered")
        if key and key == read_key:
            raise ValueError("MSR_READ_KEY is the same as MSR_API_KEY: give reading a key of its own")
        return self

    @field_validator("redis_url", "events_url")
    @classmethod
    def _check_redis_url(cls, url: SecretStr) -> SecretStr:
        """Refuses a URL that the Redis client does not accept, or does not take as it is meant."""
        text = url.get_secret_value()
        if not text:
            return url
        problem = redis_urls.problem_of(text)
        if problem is None:
            from service.stores.redis import is_accepted  # slow to load, and needed with Redis alone

            # The client's own message may quote a part of a password.
            problem = None if is_accepted(text) else redis_urls.FORM
        if problem is not None:
            raise ValueError(problem)
        return url

    @model_validator(mode="after")
    def _check_events_url(self) -> Settings:
        """Refuses the cache's database for events: a cache is emptied, and may evict."""
        urls = (self.redis_url.get_secret_value(), self.events_url.get_secret_value())
        if all(urls) and redis_urls.address_of(urls[0]) == redis_urls.address_of(urls[1]):
            raise ValueError(
                "MSR_EVENTS_URL names the same database as MSR_REDIS_URL: events need a Redis of their own, "
                "with an append-only file and without eviction"
            )
        return self

    @model_validator(mode="after")
    def _check_provider(self) -> Settings:
        """Checks that the names of providers and models in all settings are those of configured ones."""
        taken = set(BUILT_IN) & self.compatible.keys()
        if taken:
            raise ValueError(
                f"MSR_COMPATIBLE must not name {', '.join(sorted(taken))}: these names are built in"
            )
        models = self.models
        for provider, configured in models.items():
            if not configured:
                raise ValueError(f"the provider {provider} has no model: name at least one")
        if self.provider in BUILT_IN and self.provider not in models:
            raise ValueError(f"MSR_PROVIDER is {self.provider!r}: set {self.provider.upper()}_API_KEY")
        if self.provider not in models:
            names = ", ".join((*BUILT_IN, *self.compatible))
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
        """Checks that each name is a configured ``provider/model``, or a provider if that is allowed."""
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
        """Whether answers come from a cassette, so that no key is needed."""
        return self.cassette is not None and self.cassette_mode == "replay"

    @property
    def providers(self) -> dict[str, ConfiguredProvider]:
        """Every provider that can be called, by name."""
        return self.configured_providers(keyless=self.replays)

    @property
    def models(self) -> dict[str, tuple[str, ...]]:
        """The models of every provider that can be called; the first is the provider's default."""
        return {name: provider.models for name, provider in self.providers.items()}

    @property
    def destinations(self) -> list[str]:
        """A sentence for each provider but the simulator about which key is sent to which host."""
        sentences = []
        for provider in () if self.replays else self.providers.values():
            if not provider.simulated:
                key = f"{provider.key_variable} goes" if provider.key_variable else "calls go without a key"
                sentences.append(f"{provider.name}: {key} to {host_of(provider.address)}")
        return sentences

    @property
    def default_model(self) -> str:
        """The model of the default provider unless ``MSR_MODEL`` names one."""
        return self.model or self.models[self.provider][0]
