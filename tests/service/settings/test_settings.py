"""Tests that every setting is read, documented and checked."""

import re
from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.settings import Settings, read_settings, unknown_variables

EXAMPLE = Path(__file__).parents[3] / ".env.example"

OTHER_VALUES = {
    "host": "0.0.0.0",
    "port": "9000",
    "workers": "3",
    "api_key": "k",
    "root_path": "/shop",
    "max_connections": "100",
    "head_timeout_s": "1",
    "transfer_timeout_s": "2.5",
    "idle_timeout_s": "3",
    "max_body_bytes": "2048",
    "stop_s": "20",
    "drain_s": "1",
    "read_key": "r",
    "metrics_open": "false",
    "allowed_hosts": "shop.example",
    "cors_origins": "https://shop.example",
    "trusted_proxies": "10.0.0.0/8",
    "client_requests_per_minute": "100",
    "client_lvlm_calls_per_minute": "10",
    "bundle": "elsewhere",
    "backbone": "morec",
    "captioner": "gpt4o",
    "candidate_threads": "4",
    "candidate_queue": "7",
    "onnx_threads": "2",
    "provider": "simulator-anthropic",
    "model": "sim-gpt-4v",
    "deadline_ms": "5",
    "lvlm_stream": "false",
    "lvlm_concurrency": "3",
    "lvlm_adaptive": "false",
    "lvlm_attempts": "2",
    "lvlm_hedge": "0.2",
    "lvlm_call_ms": "1000",
    "lvlm_limits": '{"simulator": {"tokens_per_minute": 1000}}',
    "fallbacks": "simulator-anthropic/sim-gpt-4v",
    "budget_usd_per_hour": "0.5",
    "budget_usd_per_day": "5",
    "unpriced_calls": "allow",
    "caption_fill": "false",
    "simulator_bills": "true",
    "max_output_tokens": "100",
    "thumbnail_cache_bytes": "1",
    "simulator_url": "http://x:1",
    "simulator_profile": "paper",
    "simulator_models": "a,b",
    "openai_models": "a, b",
    "openai_base_url": "https://x",
    "openai_options": '{"images": false}',
    "openai_api_key": "sk-s3cr3t-1",
    "anthropic_models": "c",
    "anthropic_base_url": "https://x",
    "anthropic_options": '{"structured_output": false}',
    "anthropic_api_key": "sk-s3cr3t-2",
    "compatible": '{"vllm": {"base_url": "http://x/v1", "models": ["qwen"]}}',
    "redis_url": "redis://x",
    "redis_timeout_ms": "9",
    "memory_cache_bytes": "1",
    "answer_ttl_s": "1",
    "answer_stale_s": "1",
    "answer_negative_s": "1",
    "caption_ttl_s": "1",
    "data": "somewhere",
    "events_url": "redis://y",
    "events_max_users": "10",
    "events_max_bytes": "2000000",
    "events_fsync_ms": "0",
    "events_retention_s": "100",
    "cassette": "somewhere",
    "cassette_mode": "record",
    "log_level": "debug",
    "log_format": "json",
}

NEEDED = {"read_key": ("api_key",), "metrics_open": ("api_key",)}
"""Settings without which another one is refused."""


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in os.environ:
        if name.startswith(("MSR_", "OPENAI_", "ANTHROPIC_")):
            monkeypatch.delenv(name)


def variable(field: str) -> str:
    return field.upper() if field in ("openai_api_key", "anthropic_api_key") else f"MSR_{field.upper()}"


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_is_read_from_its_variable(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for needed in NEEDED.get(field, ()):
        monkeypatch.setenv(variable(needed), OTHER_VALUES[needed])
    default = getattr(read_settings(), field)
    monkeypatch.setenv(variable(field), OTHER_VALUES[field])
    assert getattr(read_settings(), field) != default


def test_the_example_lists_exactly_the_settings_with_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = dict(re.findall(r"^#?\s?([A-Z_]+)=(.*)$", EXAMPLE.read_text(), flags=re.M))
    assert set(lines) == {variable(field) for field in Settings.model_fields}
    for name, value in lines.items():
        monkeypatch.setenv(name, value)
    given = read_settings()
    assert given == Settings()
    for name in lines:
        monkeypatch.delenv(name)
    assert given == read_settings()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("MSR_PORT", "eight", "MSR_PORT: Input should be a valid integer"),
        ("MSR_PROVIDER", "openai", "MSR_PROVIDER is 'openai': set OPENAI_API_KEY"),
        ("MSR_PROVIDER", "vllm", "MSR_PROVIDER is 'vllm'; choose one of simulator"),
        ("MSR_MODEL", "gpt-9", "MSR_MODEL is 'gpt-9'; configured for simulator are sim-gpt-4o"),
        ("MSR_DEADLINE_MS", "-1", "MSR_DEADLINE_MS: Input should be greater than or equal to 0"),
        ("MSR_COMPATIBLE", '{"vllm"', "MSR_COMPATIBLE: not valid JSON"),
        ("MSR_COMPATIBLE", '{"vllm": {"base_url": "x", "models": ["m"]}}', "MSR_COMPATIBLE.vllm.base_url"),
        ("MSR_API_KEY", "k ", "MSR_API_KEY: holds control characters, or white space around it"),
        ("MSR_COMPATIBLE", '{"openai": {"base_url": "http://x", "models": ["m"]}}', "must not name openai"),
        ("MSR_SIMULATOR_MODELS", ",", "the provider simulator has no model"),
        ("MSR_REDIS_URL", "localhost:6379", "MSR_REDIS_URL: must begin with redis://, rediss:// or unix://"),
        ("MSR_READ_KEY", "r", "MSR_READ_KEY needs MSR_API_KEY, without which every request is answered"),
        ("MSR_METRICS_OPEN", "false", "MSR_METRICS_OPEN=false needs MSR_API_KEY, without which every"),
        ("MSR_ROOT_PATH", "msr", "MSR_ROOT_PATH: must be a path such as /msr"),
        ("MSR_ROOT_PATH", "/a/../b", "MSR_ROOT_PATH: must be a path such as /msr"),
        ("MSR_ROOT_PATH", "/items/shop", "MSR_ROOT_PATH: must not begin with a route of the service"),
        ("MSR_ALLOWED_HOSTS", "shop.example:80", "MSR_ALLOWED_HOSTS: 'shop.example:80' is no host: write"),
        ("MSR_ALLOWED_HOSTS", "a.example,*.*.example", "MSR_ALLOWED_HOSTS: '*.*.example' is no host"),
        ("MSR_CORS_ORIGINS", "https://a.example/shop", "MSR_CORS_ORIGINS: 'https://a.example/shop' is no"),
        ("MSR_CORS_ORIGINS", "a.example", "MSR_CORS_ORIGINS: 'a.example' is no origin: write scheme://"),
        ("MSR_CORS_ORIGINS", "null", "MSR_CORS_ORIGINS: 'null' is no origin: write scheme://host"),
        ("MSR_TRUSTED_PROXIES", "nginx", "MSR_TRUSTED_PROXIES: 'nginx' is neither an address nor a netw"),
        ("MSR_TRUSTED_PROXIES", "*", "MSR_TRUSTED_PROXIES: '*' is neither an address nor a network"),
        ("MSR_TRUSTED_PROXIES", "10.0.0.1/8", "MSR_TRUSTED_PROXIES: '10.0.0.1/8' is neither an address"),
        ("MSR_TRUSTED_PROXIES", "::/0", "MSR_TRUSTED_PROXIES: ::/0 is every address: any client could"),
        ("MSR_LOG_FORMAT", "xml", "MSR_LOG_FORMAT: Input should be 'json' or 'text'"),
    ],
)
def test_a_wrong_value_is_refused_by_name(
    name: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        read_settings()
    assert sentence in str(caught.value)


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_PORT", "")
    assert read_settings().port == 8000


def test_a_key_configures_its_provider_and_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-s3cr3t")
    monkeypatch.setenv("MSR_REDIS_URL", "redis://:alsos3cr3t@x")
    settings = read_settings()
    assert "openai" in settings.models
    assert "s3cr3t" not in repr(settings)
    monkeypatch.setenv("MSR_PROVIDER", "nobody")
    with pytest.raises(ConfigurationError) as caught:
        read_settings()
    assert "s3cr3t" not in str(caught.value)


def test_a_real_provider_leaves_no_simulator_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("MSR_PROVIDER", "openai")
    assert set(read_settings().models) == {"openai"}


def test_a_misspelt_variable_is_named_with_the_nearest_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_DEADLINE_SM", "1")
    assert unknown_variables() == ["MSR_DEADLINE_SM is not a setting; did you mean MSR_DEADLINE_MS?"]


def test_hosts_and_origins_are_kept_in_the_form_that_browsers_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_ALLOWED_HOSTS", "Shop.Example., *.EXAMPLE.com ,::1,[FE80::0:1],10.0.0.1,*")
    monkeypatch.setenv(
        "MSR_CORS_ORIGINS", "HTTPS://Shop.Example:443/,http://[::0:1]:8080,capacitor://localhost"
    )
    monkeypatch.setenv("MSR_ROOT_PATH", "/shop/msr/")
    settings = read_settings()
    assert settings.allowed_hosts == ("shop.example", "*.example.com", "::1", "fe80::1", "10.0.0.1", "*")
    assert settings.cors_origins == ("https://shop.example", "http://[::1]:8080", "capacitor://localhost")
    assert settings.root_path == "/shop/msr"


def test_both_keys_must_differ_and_neither_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_API_KEY", "hush-hush")
    monkeypatch.setenv("MSR_READ_KEY", "hush-hush")
    with pytest.raises(ConfigurationError) as caught:
        read_settings()
    assert str(caught.value) == "MSR_READ_KEY is the same as MSR_API_KEY: give reading a key of its own"
