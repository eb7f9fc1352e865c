"""Tests the options of a provider's server: address, key, headers, and how wrong ones are refused."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path

import pytest
from lvlm_parts import SCRIPTS
from scripted_server import scripted_server_thread
from service_process import start_service
from starlette.testclient import TestClient

from service.errors import ConfigurationError
from service.lvlm.providers.wire.dialect import Dialect
from service.settings import Settings, read_settings
from service.wiring.application import create_app

OTHERWISE = {
    "output_cap": "max_tokens",
    "stream_options": False,
    "image_detail": False,
    "system_role": False,
    "content_parts": False,
    "structured_output": False,
    "images": False,
    "headers": {"X-Title": "shop"},
    "query": {"api-version": "2024-10-21"},
    "api_key_header": "api-key",
}
VLLM = {"base_url": "http://gpu:8001", "models": ["qwen"], "api_key_variable": "VLLM_KEY"}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("MSR_", "OPENAI_", "ANTHROPIC_")):
            monkeypatch.delenv(name)


def compatible(**options: object) -> str:
    return json.dumps({"vllm": {**VLLM, **options}})


def refusal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        read_settings()
    return str(caught.value)


# --- addresses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
def test_the_sdks_own_name_of_an_address_is_honoured_and_ours_comes_first(
    vendor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{vendor.upper()}_BASE_URL", "https://theirs")
    assert read_settings().configured_providers(keyless=True)[vendor].address.startswith("https://theirs")
    monkeypatch.setenv(f"MSR_{vendor.upper()}_BASE_URL", "https://ours")
    assert read_settings().configured_providers(keyless=True)[vendor].address.startswith("https://ours")
    monkeypatch.setenv(f"MSR_{vendor.upper()}_BASE_URL", "")
    assert read_settings().configured_providers(keyless=True)[vendor].address.startswith("https://theirs")


def test_every_provider_has_its_address_with_or_without_a_version_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MSR_COMPATIBLE", compatible())
    settings = read_settings()
    assert settings.configured_providers(keyless=True)["openai"].address == "https://api.openai.com/v1"
    assert settings.configured_providers(keyless=True)["anthropic"].address == "https://api.anthropic.com"
    assert settings.configured_providers(keyless=True)["vllm"].address == "http://gpu:8001/v1"
    for url in ("http://sim:1", "http://sim:1/", "http://sim:1/v1"):
        monkeypatch.setenv("MSR_SIMULATOR_URL", url)
        settings = read_settings()
        assert settings.configured_providers(keyless=True)["simulator"].address == "http://sim:1/v1"
        assert settings.configured_providers(keyless=True)["simulator-anthropic"].address == "http://sim:1"


@pytest.mark.parametrize(
    "name",
    [
        "MSR_OPENAI_BASE_URL",
        "OPENAI_BASE_URL",
        "MSR_ANTHROPIC_BASE_URL",
        "ANTHROPIC_BASE_URL",
        "MSR_SIMULATOR_URL",
    ],
)
@pytest.mark.parametrize("url", ["https://me:s3cr3t@host/v1", "https://host/v1?key=s3cr3t", "host"])
def test_an_address_that_cannot_be_used_is_refused_under_the_name_that_was_set(
    name: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refusal(monkeypatch, **{name: url})
    assert said.startswith(f"{name}: must ")
    assert "s3cr3t" not in said


def test_the_address_of_a_compatible_provider_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://x.openai.azure.com/openai/deployments/gpt-4o?api-version=2024-10-21"
    said = refusal(monkeypatch, MSR_COMPATIBLE=compatible(base_url=url))
    assert said.startswith("MSR_COMPATIBLE.vllm.base_url: must not hold a query (api-version)")
    assert "the option 'query'" in said


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
@pytest.mark.parametrize("path", ["", "/v1", "/v1/"])
def test_calls_and_keys_go_to_the_address_that_the_sdks_name(
    vendor: str, path: str, bundle_folder: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}[vendor]
    with scripted_server_thread(SCRIPTS[vendor].plain('{"ranking": ["B", "A"]}')) as server:
        monkeypatch.setenv(f"{vendor.upper()}_BASE_URL", server.url + path)
        monkeypatch.setenv(f"{vendor.upper()}_API_KEY", "sk-s3cr3t")
        monkeypatch.setenv("MSR_BUNDLE", str(bundle_folder))
        monkeypatch.setenv("MSR_DATA", str(data_folder))
        monkeypatch.setenv("MSR_PROVIDER", vendor)
        monkeypatch.setenv("MSR_LVLM_STREAM", "false")
        with TestClient(create_app(read_settings()), "http://127.0.0.1") as client:
            answer = client.post("/recommend?strategy=s3", json={"user_id": "u1", "k": 2})
            assert answer.json()["outcome"] == "ok"
        (request,) = server.requests
    assert request.path == endpoint
    assert "sk-s3cr3t" in (request.headers.get("authorization", "") + request.headers.get("x-api-key", ""))


# --- options ------------------------------------------------------------------------------------------------


def test_every_option_of_a_server_reaches_its_dialect(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(OTHERWISE) == {field.name for field in fields(Dialect)}
    monkeypatch.setenv("MSR_OPENAI_OPTIONS", json.dumps(OTHERWISE))
    assert read_settings().configured_providers(keyless=True)["openai"].dialect == Dialect(**OTHERWISE)
    monkeypatch.setenv("MSR_ANTHROPIC_OPTIONS", json.dumps(OTHERWISE | {"output_cap": None}))
    assert "output_cap does not apply" in refusal(monkeypatch)
    rest = {name: value for name, value in OTHERWISE.items() if name != "output_cap"}
    monkeypatch.setenv("MSR_ANTHROPIC_OPTIONS", json.dumps(rest))
    assert read_settings().configured_providers(keyless=True)["anthropic"].dialect == Dialect(**OTHERWISE)
    other = OTHERWISE | {"output_cap": "max_completion_tokens"}
    monkeypatch.setenv("MSR_COMPATIBLE", compatible(**other))
    assert read_settings().configured_providers(keyless=True)["vllm"].dialect == Dialect(**other)


def test_a_server_of_which_nothing_is_said_takes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_COMPATIBLE", compatible())
    settings = read_settings()
    assert (
        settings.configured_providers(keyless=True)["openai"].dialect
        == settings.configured_providers(keyless=True)["simulator"].dialect
        == Dialect()
    )
    assert settings.configured_providers(keyless=True)["vllm"].dialect == Dialect(output_cap="max_tokens")
    assert (
        settings.configured_providers(keyless=True)["anthropic"].dialect
        == settings.configured_providers(keyless=True)["simulator-anthropic"].dialect
    )
    assert settings.configured_providers(keyless=True)["anthropic"].dialect == Dialect(
        output_cap="max_tokens"
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"headers": {"Host": "x"}}, ".headers: Host must not be set"),
        ({"headers": {"content-length": "1"}}, ".headers: content-length must not be set"),
        ({"headers": {"x y": "s3cr3t"}}, ".headers: a header's name is made of"),
        ({"headers": {"X-A": "s3cr3t\r\nHost: x"}}, ".headers: the value of X-A holds characters that no"),
        ({"headers": {"X-A": "s3cr3té"}}, ".headers: the value of X-A holds characters that no header"),
        ({"headers": {"X-A": "s3cr3t "}}, ".headers: the value of X-A holds characters that no header"),
        ({"headers": {"X-A": "s3cr3t", "x-a": "s3cr3t"}}, ".headers: a header is named twice"),
        ({"headers": {"X-A": 5}}, ".headers.X-A: must be a text in double quotes"),
        ({"query": {"": "s3cr3t"}}, ".query: every parameter needs a name and a value"),
        ({"query": {"api-version": ""}}, ".query: every parameter needs a name and a value"),
        ({"query": {"key": "s3cr3t\ud800"}}, ".query: a parameter holds characters that no address"),
        ({"api_key_header": "Host"}, ".api_key_header: Host must not be set"),
        ({"api_key_header": "API-KEY", "headers": {"api-key": "s3cr3t"}}, "both name API-KEY"),
        ({"output_cap": "max"}, ".output_cap: Input should be 'max_tokens' or 'max_completion_tokens'"),
        ({"image": False}, ".image: no option: did you mean 'images'?"),
    ],
)
def test_an_option_that_would_break_the_request_is_refused_without_showing_it(
    options: dict[str, object], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refusal(monkeypatch, MSR_OPENAI_OPTIONS=json.dumps(options))
    assert said.startswith("MSR_OPENAI_OPTIONS")
    assert sentence in said
    assert "cret" not in said
    monkeypatch.delenv("MSR_OPENAI_OPTIONS")
    said = refusal(monkeypatch, MSR_COMPATIBLE=compatible(**options))
    assert said.startswith("MSR_COMPATIBLE.vllm")
    assert sentence in said
    assert "cret" not in said


def test_secrets_in_options_are_in_no_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"headers": {"X-Gateway-Key": "s3cr3t"}, "query": {"key": "s3cr3t"}}
    monkeypatch.setenv("MSR_OPENAI_OPTIONS", json.dumps(secrets))
    monkeypatch.setenv("MSR_COMPATIBLE", compatible(**secrets))
    settings = read_settings()
    assert settings.configured_providers(keyless=True)["openai"].dialect.headers == {
        "X-Gateway-Key": "s3cr3t"
    }
    for shown in (
        settings,
        settings.configured_providers(keyless=True)["openai"].dialect,
        settings.configured_providers(keyless=True)["vllm"].dialect,
    ):
        assert "s3cr3t" not in f"{shown!r} {shown}"


# --- keys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["sk-s3cr3t\n", "sk-\rs3cr3t", "sk-\x7fs3cr3t", "sk-s3cr3té", " sk-s3cr3t"])
def test_a_key_that_no_header_can_carry_is_refused_by_the_name_of_its_variable(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        said = refusal(monkeypatch, **{name: key})
        assert said.startswith(f"{name}: holds characters that no header can carry")
        assert "cret" not in said
        monkeypatch.delenv(name)
    monkeypatch.setenv("MSR_COMPATIBLE", compatible())
    monkeypatch.setenv("VLLM_KEY", key)
    with pytest.raises(ConfigurationError, match=r"^VLLM_KEY: holds characters that no header") as caught:
        read_settings().providers["vllm"].check()
    assert "cret" not in str(caught.value)


def test_a_key_header_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(monkeypatch, MSR_COMPATIBLE=compatible(api_key_header="api-key", api_key_variable=""))
    assert "api_key_header needs api_key_variable" in said


def test_a_key_that_was_pasted_for_its_variables_name_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(monkeypatch, MSR_COMPATIBLE=compatible(api_key_variable="sk-s3cr3t"))
    assert said.startswith(
        "MSR_COMPATIBLE.vllm.api_key_variable: must be the name of an environment variable"
    )
    assert "s3cr3t" not in said


def test_the_start_stops_when_the_variable_of_a_key_is_not_set(bundle_folder: Path) -> None:
    settings = {"provider": "vllm", "compatible": compatible()}
    with (
        pytest.raises(RuntimeError, match=r"stopped with 2:\nmsr-serve: MSR_COMPATIBLE\.vllm\.api_key_v"),
        start_service(bundle_folder, environment={"VLLM_KEY": ""}, **settings),
    ):
        pass


def test_a_key_that_could_be_a_variables_name_is_not_shown_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_COMPATIBLE", compatible(api_key_variable="a1b2s3cr3t3"))
    with pytest.raises(ConfigurationError, match=r"vllm\.api_key_variable: .* is not set$") as caught:
        read_settings().providers["vllm"].check()
    assert "s3cr3t" not in str(caught.value)


def test_a_replay_needs_no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MSR_COMPATIBLE", compatible())
    monkeypatch.setenv("MSR_CASSETTE", str(tmp_path))
    assert read_settings().destinations == []


def test_the_start_says_which_host_gets_which_key_and_never_the_key(bundle_folder: Path) -> None:
    keys = {"VLLM_KEY": "s3cr3t-1", "OPENAI_API_KEY": "s3cr3t-2", "ANTHROPIC_API_KEY": "s3cr3t-3"}
    keys["ANTHROPIC_BASE_URL"] = "https://claude.example:8443/v1"
    keyless = {"base_url": "http://localhost:11434/v1", "models": ["llava"]}
    with start_service(
        bundle_folder,
        environment=keys,
        compatible=json.dumps({**json.loads(compatible()), "ollama": keyless}),
    ) as service:
        log = service.log
    lines = [line.partition(" ")[2].strip() for line in log.splitlines() if " go" in line]
    assert lines == [
        "openai: OPENAI_API_KEY goes to api.openai.com",
        "anthropic: ANTHROPIC_API_KEY goes to claude.example:8443",
        "vllm: VLLM_KEY goes to gpu:8001",
        "ollama: calls go without a key to localhost:11434",
    ]
    assert "s3cr3t" not in log


def test_the_default_of_every_provider_is_the_vendor() -> None:
    assert Settings().destinations == []
    assert Settings(openai_api_key="k").destinations == ["openai: OPENAI_API_KEY goes to api.openai.com"]
