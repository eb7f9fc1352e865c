"""Tests what the start says of an open address, of money without a limit, and of the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from service.greeting import exposure_warnings, greeting

from service.catalogue.bundle import open_bundle
from service.settings import Settings

PAID = {"provider": "openai", "openai_api_key": "sk-secret"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "shop.example"])
def test_an_address_that_others_reach_without_a_key_is_named(host: str) -> None:
    (warning,) = exposure_warnings(Settings(host=host))
    assert warning.startswith(f"every machine that reaches {host} may ask")
    assert "set MSR_API_KEY" in warning
    assert not exposure_warnings(Settings(host=host, api_key="k"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_loopback_needs_no_warning(host: str) -> None:
    assert not exposure_warnings(Settings(host=host))


def test_a_provider_that_is_paid_and_has_no_budget_is_named_without_its_key() -> None:
    (warning,) = exposure_warnings(Settings(**PAID))
    assert warning.startswith("calls of openai cost money and nothing limits them")
    assert "secret" not in warning
    assert not exposure_warnings(Settings(**PAID, budget_usd_per_day=1))
    assert not exposure_warnings(Settings(**PAID, budget_usd_per_hour=1))


def test_a_key_in_stock_counts_though_another_provider_is_the_default() -> None:
    assert len(exposure_warnings(Settings(anthropic_api_key="sk-secret", host="0.0.0.0"))) == 2


@pytest.mark.parametrize("given", [{}, {"api_key": "open sesame"}], ids=["open", "keyed"])
def test_the_commands_carry_the_key_s_variable_and_not_the_key(
    given: dict[str, Any], bundle_folder: Path
) -> None:
    text = greeting("http://x:1", open_bundle(bundle_folder), Settings(**given))
    commands = [line for line in text.splitlines() if line.strip().startswith("curl ")]
    assert len(commands) == 3
    assert all(('-H "Authorization: Bearer $MSR_API_KEY"' in command) == bool(given) for command in commands)
    assert "sesame" not in text
